"""Units: a table of those that occur in benchmarks, and how the words after a number are read.

A unit is a size and its dimensions, as ((name, power), ...). What is not in the table counts only if it names things
(`12 apples`, `16 right-handed boys`): its own dimension. Any other word after a number (`3 fourths`, `5 wrong`) is
no unit. Sizes are exact; dollars, percent and calendar months are dimensions of their own.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple


def names(text: str) -> frozenset[str]:
    """A vocabulary, written as a line of words."""
    return frozenset(text.split())


class Unit(NamedTuple):
    """`size` in the base units of its `dims`."""

    size: Fraction
    dims: tuple[tuple[str, int], ...]


PERCENT, DEGREE, MONEY = (Unit(Fraction(1), ((name, 1),)) for name in ("percent", "degree", "dollar"))
CURRENCIES = {"$": MONEY, "€": Unit(Fraction(1), (("euro", 1),)), "£": Unit(Fraction(1), (("sterling", 1),))}

# dimension: size, then its spellings in the singular; a plural -s is understood
_TABLE = {
    "length": {
        "1": "m meter metre", "1/1000": "mm millimeter millimetre", "1/100": "cm centimeter centimetre",
        "1/10": "dm decimeter", "1000": "km kilometer kilometre", "1/1000000": "micrometer", "1/1000000000": "nm",
        "127/5000": "in inch inches", "381/1250": "ft foot feet", "1143/1250": "yd yard", "201168/125": "mi mile",
    },
    "time": {"1": "s sec second", "60": "min minute", "3600": "h hr hour", "86400": "day", "604800": "week wk"},
    "month": {"1": "month", "12": "year yr", "120": "decade", "1200": "century centuries"},
    "mass": {
        "1": "g gram", "1/1000": "mg milligram", "1000": "kg kilogram", "1000000": "tonne",
        "45359237/100000": "lb pound", "45359237/1600000": "oz ounce", "907184740/1000": "ton",
    },
    "dollar": {"1": "dollar usd USD buck", "1/100": "cent", "1/10": "dime", "1/20": "nickel"},
    "degree": {"1": "deg degree"},
    "radian": {"1": "rad radian"},
    "percent": {"1": "percent pct percentage"},
    "volume": {
        "1": "L l liter litre", "1/1000": "ml mL milliliter millilitre", "473176473/125000000": "gal gallon",
        "473176473/500000000": "qt quart", "473176473/1000000000": "pt pint",
    },
    "temperature": {"1": "celsius Celsius"}, "fahrenheit": {"1": "fahrenheit Fahrenheit"}, "energy": {"1": "joule J"},
    "electronvolt": {"1": "eV"}, "power": {"1": "watt W"}, "force": {"1": "newton N"}, "pressure": {"1": "pascal Pa"},
    "frequency": {"1": "Hz hertz", "1000": "kHz"}, "charge": {"1": "coulomb"}, "potential": {"1": "volt V"},
    "unit": {"1": "unit"}, "person": {"1": "person people"},
}  # fmt: skip
_KNOWN = {
    spelling: Unit(Fraction(size), ((name, 1),))
    for name, sizes in _TABLE.items()
    for size, spellings in sizes.items()
    for spelling in spellings.split()
}
_SPEEDS = {"mph": "mile per hour", "kph": "km per hour", "kmh": "km per hour", "bps": "bit per second"}
PRODUCTS = {"pt", "mi", "qt", "wk", "dm"}  # outside of \\text, rather two variables
UNIT_LETTERS = {word for word in _KNOWN if len(word) == 1}
UNIT_WORDS = {word + s for word in _KNOWN if len(word) > 1 for s in ("", "s")} - PRODUCTS | {*_SPEEDS, "am", "pm"}

MULTIPLES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
MULTIPLES |= {f"{word}s": size for word, size in MULTIPLES.items()}
# Words that make a number another value, a condition or a comment: no phrase with one of them is a unit.
_NOT_UNITS = names(
    "not no non none if when where for with otherwise more less fewer than least most mod modulo base half halves "
    "dozen dozens score scores gross lakh lakhs crore crores plus minus over to but some any all every is are be "
    "because since which that wait then tens ones hundreds thousands third thirds quarter quarters squared cubed "
    "factorial wrong incorrect false maybe perhaps or and about approximately roughly divided "
    "multiplied"
)
_ORDINAL = re.compile(r"\w*(?:[a-z]th|illion)s?")  # fourths, quadrillions
_IRREGULAR = names("men women children people bacteria feet teeth mice geese sheep fish deer dice units ways pm am")
_FILLER = re.compile(
    r"\s+(?:in (?:total|all)|altogether|total|overall|left(?: over)?|remaining|each|apart|away|long|tall|wide|high"
    r"|old|of age)$"
)
_POWER = re.compile(r"(.+?)\s*\^\s*(-?\d)")
_PREFIX_POWERS = {"square": 2, "squared": 2, "sq": 2, "sq.": 2, "cubic": 3, "cubed": 3, "cu": 3}


@lru_cache(maxsize=4096)
def read_unit(words: str, one: bool) -> Unit | None:
    """The unit that the words after a number name, or None if they name none; after a `one`, things are singular."""
    words = re.sub(r"\b([ap]) m\b", r"\1m", words.strip())
    while words != (words := _FILLER.sub("", " " + words).strip()):
        pass
    if not words:
        return Unit(Fraction(1), ())
    words = _SPEEDS.get(words.lower(), words)
    over, _, under = words.replace(" per ", "/").partition("/")
    found = _product(over, one)
    below = _product(under, True) if under else Unit(Fraction(1), ())
    if found is None or below is None:
        return None
    dims = dict(found.dims)
    for name, power in below.dims:
        dims[name] = dims.get(name, 0) - power
    return Unit(found.size / below.size, tuple(sorted((name, power) for name, power in dims.items() if power)))


def _product(words: str, one: bool) -> Unit | None:
    """`kg m^2`, `square miles`, `sq. ft`; else a noun phrase."""
    size, dims, square = Fraction(1), {}, 1
    parts = words.replace("*", " ").split()
    for i, part in enumerate(parts):
        if part.lower() in _PREFIX_POWERS:
            square = _PREFIX_POWERS[part.lower()]
            if i + 1 == len(parts):  # `cm squared`
                dims, size = {name: power * square for name, power in dims.items()}, size**square
            continue
        word, power = (match[1], int(match[2])) if (match := _POWER.fullmatch(part)) else (part, 1)
        known = _lookup(word)
        if known is None or abs(power) > 9:
            return _things(words, one)
        size *= known.size ** (power * square)
        for name, _ in known.dims:
            dims[name] = dims.get(name, 0) + power * square
        square = 1
    if not dims:
        return None
    if dims.get("length") == 3:  # a litre is a cubic decimetre
        del dims["length"]
        size, dims["volume"] = size * 1000, 1
    return Unit(size, tuple(sorted(dims.items())))


def _lookup(word: str) -> Unit | None:
    lower = word.lower() if len(word) > 2 else word  # M is no metre
    for spelling in (word, lower, lower.removesuffix("s")):
        if spelling in _KNOWN:
            return _KNOWN[spelling]
    return None


def _things(words: str, one: bool) -> Unit | None:
    """A noun phrase that can be counted, by its head: `hot dogs`, `cups of flour`, `right-handed boys`."""
    parts = re.sub(r"\w+-\s*\w+\s+", "", words).split()  # `right-handed`: some quality
    for part in map(str.lower, parts):
        if part in _NOT_UNITS or not part.isalpha() or (_ORDINAL.fullmatch(part) and part not in ("month", "months")):
            return None
    stop = next((i for i, part in enumerate(parts) if part in ("of", "in", "on", "at", "by", "from")), len(parts))
    if stop > 4 or not 0 < len(parts) <= 8:
        return None
    head = parts[max(stop - 1, 0)]
    if known := _lookup(head):
        return known if stop == 1 else None
    head = head.lower()
    plural = head in _IRREGULAR or (head.endswith("s") and len(head) > 3 and head[-2] not in "sui")
    return Unit(Fraction(1), ((head.removesuffix("s"), 1),)) if plural or one or head == "of" else None


# -- comparing


def split_unit(tree: tuple) -> tuple[tuple, Unit | None]:
    """The value of a tree and its unit, None if it has none."""
    if tree[0] != "unit":
        return tree, None
    value, inner = split_unit(tree[1])
    return value, tree[2] if inner is None or inner == tree[2] else Unit(inner.size, inner.dims + tree[2].dims)


def unit_factors(gold: Unit | None, answer: Unit | None, share: bool, gold_pi: bool, answer_pi: bool) -> list[tuple]:
    """What the answer's value may be multiplied by, as trees, before it is compared; empty if the units cannot agree.

    `share`: the gold's value is a proper fraction; `gold_pi`, `answer_pi`: whether pi stands in the values.
    """
    one, half_turn = ("num", Fraction(1)), ("/", ("num", Fraction(180)), ("sym", "pi"))
    if gold is not None and answer is not None:
        if gold.dims == answer.dims:
            return [("num", answer.size / gold.size)]
        if {gold.dims, answer.dims} == {DEGREE.dims, _KNOWN["radian"].dims}:
            return [half_turn if gold.dims == DEGREE.dims else ("/", one, half_turn)]
        return []
    if answer == PERCENT:  # `0.5` may be what `50%` means; `50` may be the percentage asked for, a proper fraction not
        return [("num", Fraction(1, 100))] if share else [("num", Fraction(1, 100)), one]
    if gold == PERCENT:
        return [one, ("num", Fraction(100))]
    if gold == DEGREE and answer_pi:
        return [half_turn]
    if answer == DEGREE and gold_pi:
        return [("/", one, half_turn)]
    return [one]
