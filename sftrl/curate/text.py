r"""When two problems are the same text: normalisation to tokens, and a stable hash.

Layout is ignored: case, spaces, punctuation, `$` and `\left`, `\dfrac` for `\frac`, braces that group. Mathematics
is not: numbers, operators, brackets and names stay, so `x+3` and `x-3` differ.
"""

import re
import unicodedata
from collections.abc import Iterable

import numpy as np
import pandas as pd

from sftrl.files import hash_value

# Layout: sizes of delimiters and spaces, faces of letters, empty sub- and superscripts (copies of AIME have many).
LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|limits|q?quad|text(?:bf|it|rm)?|math(?:rm|bf|it)|mbox|emph|begin|end)(?![a-z])"
    r"|\\[ ,;:!()\[\]]|[_^]{\s*}|[${}~&]"
)
SPELLINGS = {
    **dict.fromkeys(["dfrac", "tfrac", "cfrac"], "frac"),
    **dict.fromkeys(["ldots", "cdots", "dotsc", "dotsb", "dotsm"], "dots"),
    **dict.fromkeys(["le", "leqslant"], "leq"),
    **dict.fromkeys(["ge", "geqslant"], "geq"),
    "ne": "neq",
}
SPELLED = re.compile(rf"\\({'|'.join(SPELLINGS)})(?![a-z])")
TOKEN = re.compile(
    r"""\\[a-z]+|\d+(?:\.\d+)?|[^\W\d_]+|[^\w\s.,;:?'"`‘’“”]|_"""
)  # of punctuation, `!` is the factorial


def tokens(text: str) -> list[str]:
    """Split a problem's text into what decides its meaning: words, numbers, operators, LaTeX commands; lower case."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = LAYOUT.sub(" ", text)
    if "\\" in text:
        text = SPELLED.sub(lambda found: "\\" + SPELLINGS[found[1]], text)
    return TOKEN.findall(text)


def normalise(text: str) -> str:
    """Return the text's tokens joined by spaces: equal for texts that read the same. Without any, the text."""
    return " ".join(tokens(text)) or text.strip()


def keyed_hash(texts: Iterable[str], seed: int, purpose: str) -> np.ndarray:
    """Hash each text to a uint64 by text, seed and purpose alone: its row and the process do not matter.

    As good as random order: sorting by it shuffles, comparing it with a threshold draws a sample, and either stays as
    it is for the texts that are there when others come in. Different purposes are independent draws.
    """
    key = hash_value({"seed": seed, "purpose": purpose})  # 16 characters, as the hash wants
    return pd.util.hash_array(np.asarray(list(texts), dtype=object), hash_key=key, categorize=False)
