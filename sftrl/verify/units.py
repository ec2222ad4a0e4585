"""Compare values with units: a unit may be left out, changed into another of its kind, but not into another kind."""

from fractions import Fraction

from sftrl.verify.evaluate import NoValue, equal, exact, numeric, symbols

# name -> (kind, size); sizes are exact and only compared within a kind
_SIZES = {
    "length": {"mm": "1/1000", "cm": "1/100", "m": 1, "km": 1000, "inch": "127/5000", "foot": "381/1250"}
    | {"yard": "1143/1250", "mile": "201168/125"},
    "time": {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800},
    "mass": {"mg": "1/1000", "gram": 1, "kg": 1000},
    "money": {"cent": "1/100", "dollar": 1},
    "angle": {"degree": 1},
    "volume": {"ml": "1/1000", "liter": 1},
    "percent": {"%": 1},
}
_SPELLINGS = {
    "inch": "inches in",
    "foot": "ft feet",
    "yard": "yd",
    "m": "meter metre meters metres",
    "cm": "centimeter centimetre",
    "km": "kilometer kilometre",
    "mm": "millimeter millimetre",
    "second": "s sec secs",
    "minute": "min mins",
    "hour": "h hr hrs",
    "gram": "g",
    "kg": "kilogram",
    "mg": "milligram",
    "degree": "deg",
    "liter": "l litre L",
    "ml": "mL milliliter",
    "%": "percent pct percentage",
    "cent": "¢",
    "dollar": "usd USD bucks",
    "mile": "mi",
}
_ALIASES = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()}
_KNOWN = {name: (kind, Fraction(size)) for kind, sizes in _SIZES.items() for name, size in sizes.items()}


def split_unit(tree: tuple) -> tuple[tuple, str]:
    """The value and its unit in one spelling ('' if it has none)."""
    if tree[0] != "unit":
        return tree, ""
    value, inner = split_unit(tree[1])
    unit = _one_spelling(tree[2])
    return value, unit if not inner or unit == inner else f"{inner} {unit}"


def _one_spelling(unit: str) -> str:
    lower = unit.lower()
    for word in (unit, lower, lower.rstrip("s")):
        if word in _KNOWN or word in _ALIASES:
            return _ALIASES.get(word, word)
    return lower


def factors(gold_unit: str, answer_unit: str, gold: tuple, answer: tuple) -> list[Fraction | tuple]:
    """What the answer's value may be multiplied by before it is compared; empty if the units cannot agree."""
    one = Fraction(1)
    if gold_unit == answer_unit:
        return [one]
    known, other = _KNOWN.get(gold_unit), _KNOWN.get(answer_unit)
    if known and other:
        return [other[1] / known[1]] if known[0] == other[0] else []
    if answer_unit == "%" and not gold_unit:
        # `0.5` may be what `50%` means; `50` may be the percentage asked for. A proper fraction is no percentage.
        return [one / 100] if _proper_fraction(gold) else [one, one / 100]
    if gold_unit == "%" and not answer_unit:
        return [one, one * 100]
    if gold_unit == "degree" and not answer_unit and "pi" in symbols(answer):
        return [("/", ("num", Fraction(180)), ("sym", "pi"))]
    if answer_unit == "degree" and not gold_unit and "pi" in symbols(gold):
        return [("/", ("sym", "pi"), ("num", Fraction(180)))]
    return [one]


def _proper_fraction(tree: tuple) -> bool:
    try:
        value = exact(tree, {})
    except NoValue:
        return False
    return abs(value) < 1 and value.denominator != 1


def same_quantity(gold: tuple, answer: tuple, tolerance: float | None) -> bool | None:
    """Compare two scalars with or without units. Raises NoValue if one of them is no scalar."""
    (gold, gold_unit), (answer, answer_unit) = split_unit(gold), split_unit(answer)
    found: bool | None = False
    for factor in factors(gold_unit, answer_unit, gold, answer):
        scaled = answer
        if factor != 1:
            scaled = ("*", (answer, factor if isinstance(factor, tuple) else ("num", factor)))
        same = within(gold, scaled, tolerance) or equal(gold, scaled)
        if same:
            return True
        found = None if same is None else found
    return found


def within(gold: tuple, answer: tuple, tolerance: float | None) -> bool:
    """Say whether two constants differ by no more than a relative tolerance; None allows nothing."""
    if tolerance is None:
        return False
    try:
        gold, answer = numeric(split_unit(gold)[0], {}), numeric(split_unit(answer)[0], {})
    except NoValue:
        return False
    return abs(answer - gold) <= tolerance * abs(gold)
