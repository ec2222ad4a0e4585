"""A place in the tokens of an answer: what every level of the grammar looks ahead with."""

from sftrl.verify.tokens import DOLLAR, Unreadable, tokenize

MAX_DEPTH = 30  # nested brackets; each costs a dozen Python frames


class Cursor:
    """Tokens, where reading stands in them, and how deep in brackets that is."""

    def __init__(self, text: str, commas: bool, tight: bool) -> None:
        delimiters = len(DOLLAR.findall(text))
        self.tokens = tokenize(DOLLAR.sub(" ", text) if delimiters % 2 == 0 else text, commas)  # an odd one is a price
        self.at = 0
        self.depth = 0
        self.bars = 0  # open |
        self.tight = tight

    def kind(self, ahead: int = 0) -> str | None:
        return self.tokens[self.at + ahead][0] if self.at + ahead < len(self.tokens) else None

    def value(self, ahead: int = 0) -> object:
        return self.tokens[self.at + ahead][1] if self.at + ahead < len(self.tokens) else None

    def is_op(self, *signs: str) -> bool:
        return self.kind() == "op" and self.value() in signs

    def take(self, sign: str) -> None:
        if not self.is_op(sign):
            raise Unreadable(f"{sign!r} expected")
        self.at += 1

    def fail(self, reason: str) -> tuple:
        raise Unreadable(reason)

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
