r"""The number that a free text gives.

Read are signs, thousands separators, decimals, exponents (`1e3`, `1.5 × 10^3`), powers (`2^10`, `10³`), fractions
(`3/4`, `1 1/2`, `2½`, `\frac{3}{4}`), hexadecimal (`0x1F`), percent and currency signs, in the digits of any script. A
number behind `####` (GSM8K, Cobbe et al. 2021, arXiv 2110.14168) or in `\boxed{}` (MATH) is the answer; else the last
one in the text is. Digits that are only a part of something else (a date, a time, a version, `1,2,3`, an exponent) are
none: what is not read whole is not read.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import deque
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar, Literal, NamedTuple

from workbench.errors import ScorerError, UseError
from workbench.records import Judgement
from workbench.scorers.base import Answered, passed, quote, references

FINAL = re.compile(r"####|\\boxed\s*\{")
TEX = [
    (re.compile(r"(?<=\d)(?=\\[dt]?frac)"), " "),
    (re.compile(r"\\[dt]?frac(?:\{(\d+)\}|(\d))(?:\{(\d+)\}|(\d))"), r"\1\2/\3\4"),
    (re.compile(r"(?<=\d)(?:\{,\}|\\[,!])(?=\d)"), ""),
    (re.compile(r"\\([%$])"), r"\1"),
    (re.compile(r"\\sqrt\s*(?:\[\d+\])?\s*\{?"), "√"),
    (re.compile(r"\\pi\b"), "π"),
]
"""LaTeX for what is written more plainly elsewhere."""
VULGAR = re.compile(r"(\d?)([¼-¾⅐-⅞])")
"""½ and its like, and a digit before it."""
DATE = re.compile(r"(?<!\d)[12]\d{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?!\d)")
MINUS = "-−–－"
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻−", "0123456789+--")
NUMBER = r"""
    (?<![A-Za-z0-9_√])(?<!\d[.,:/])                 # not inside a word or another number: H2O, 1.2.3, 12/05/2024
    (?<!\^)(?<!\^[-−+{{(])(?<!\^[{{(][-−+])(?<!\d[eE][-−+])   # no exponent of what is not read: x^2
    (?:(?<![)\]%])(?P<sign>[-−–－+＋]))?
    (?:[$€£¥₹₩]\s?)?(?P<inner>[-−–－])?             # -$5 and $-5
    (?: (?P<based>0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)\b)
      | (?!0[xXoObB]\w)(?:(?P<whole>\d{{1,9}})[ ](?=\d+/\d))?     # the 1 of 1 1/2
        (?: (?P<other>                              # with the marks the other way round, where nothing else fits
                \d{{1,3}}(?:{point}\d{{3}})+{comma}\d+
                | \d{{1,3}}(?:{point}\d{{3}}){{2,}}
                | [1-9]\d{{0,2}}(?:[{space}]\d{{3}})+{comma}(?!\d{{3}}(?!\d))\d+ )
          | (?P<body>
                (?:\d{{1,3}}(?:[{group}]\d{{3}})+|\d{{1,2}}(?:[{group}]\d{{2}})+[{group}]\d{{3}})(?:{point}\d+)?
                | (?<!\d[ ])[1-9]\d{{0,2}}(?:[ ]\d{{3}})+(?![ ]\d)(?:{point}\d+)?
                | \d+(?:{point}\d+)? | {point}\d+ ) )
        (?:/(?P<below>\d+))?
        (?![.,:/]?\d)
        (?:[eE](?P<exponent>[-−+]?\d+)\b(?!\.\d))?
        (?(below)(?![⁰¹²³⁴⁵⁶⁷⁸⁹⁻]) | (?:
            (?:\^|\*\*)(?:(?P<power>[-−+]?\d+)|[{{(](?P<braced>[-−+]?\d+)[}})])|(?P<raised>[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+))? )
        (?:\s?(?:[×x*·]|\\times|\\cdot)\s?10\s?
            (?:(?:\^|\*\*)\s?\{{?(?P<tens>[-−+]?\d+)\}}?|(?P<high>[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)))?
        (?![eE][-−+]?\d|\^) )
    (?!\s?[√π])
    (?P<percent>\s?(?:[%％]|percent\b|per\ cent\b))?
"""
GROUPS = "'’_\u00a0\u2009\u202f"
"""What parts thousands besides the comma (or the point, where the comma is the decimal mark)."""
REST = 24
"""How many characters behind a number are kept, for its unit."""


class Found(NamedTuple):
    """A number as it stands in a text."""

    text: str
    value: float
    percent: bool
    rest: str = ""
    """What stands behind it."""

    @property
    def readings(self) -> tuple[float, ...]:
        """50 % may be meant as 50 or as 0.5."""
        return (self.value, self.value / 100) if self.percent else (self.value,)


def find_number(text: str, decimal: str = ".", after: str | None = None) -> Found | None:
    """The number that the text gives: see the module; with `after` the first one behind that text."""
    text = _plain(text)
    starts = [text.rfind(after) + len(after)] if after else [m.end() for m in FINAL.finditer(text)]
    if after and after not in text:
        return None
    pattern = _pattern(decimal)
    marked = pattern.search(text, starts[-1]) if starts else None
    if marked or after:
        return _read(marked, decimal) if marked else None
    last = deque(pattern.finditer(text), maxlen=1)
    return _read(last[0], decimal) if last else None


def _plain(text: str) -> str:
    """The text with fractions as digits and a slash, and without dates."""
    for pattern, plain in TEX:
        text = pattern.sub(plain, text)
    return DATE.sub("(date)", VULGAR.sub(_written_out, text).replace("⁄", "/"))


def _written_out(found: re.Match[str]) -> str:
    """2½ as 2 1/2."""
    return (f"{found[1]} " if found[1] else "") + unicodedata.normalize("NFKC", found[2])


@lru_cache(maxsize=2)
def _pattern(decimal: str) -> re.Pattern[str]:
    other = "," if decimal == "." else "."
    marks = {"point": re.escape(decimal), "comma": re.escape(other)}
    return re.compile(NUMBER.format(group=GROUPS + other, space=" " + GROUPS, **marks), re.VERBOSE)


def _read(match: re.Match[str], decimal: str) -> Found:
    """The value; infinite where it is beyond a double's range."""
    value = _value(match, decimal)
    negative = bool(match["inner"]) or (match["sign"] or "+") in MINUS
    return Found(
        match[0].strip(), -value if negative else value, bool(match["percent"]), match.string[match.end() :][:REST]
    )


def _value(match: re.Match[str], decimal: str) -> float:
    """Without its sign."""
    mark = decimal if match["body"] else "," if decimal == "." else "."
    power = _whole(match["power"] or match["braced"] or match["raised"], 1)
    exponent = _whole(match["exponent"]) + _whole(match["tens"] or match["high"])
    try:
        if match["based"]:
            return float(int(match["based"], 0))
        digits = "".join(c for c in match["body"] or match["other"] if c.isdigit() or c == mark).replace(mark, ".")
        value = float(f"{digits}e{exponent}")
        if power != 1:
            value = math.pow(float(digits), power) * float(f"1e{exponent}")
        return value / float(match["below"] or 1) + float(match["whole"] or 0)
    except (ArithmeticError, ValueError):
        return math.inf


def _whole(digits: str | None, missing: int = 0) -> int:
    return int(digits.translate(SUPERSCRIPTS)[:6]) if digits else missing


@dataclass(frozen=True)
class Number:
    """The number that the text gives (the last, or the one marked as final) is the expected number. The
    tolerances are those of `math.isclose`: |a − b| ≤ max(rel_tol · max(|a|, |b|), abs_tol)."""

    abs_tol: float = 0.0
    rel_tol: float = 1e-9
    decimal: Literal[".", ","] = "."
    """The decimal mark; the other of the two parts thousands."""
    after: str | None = None
    """Take the first number behind the last place of this text, such as `Answer:`."""
    units: dict[str, float] | None = None
    """What a unit or a word behind the number makes of it, such as {km: 1000, m: 1, million: 1000000}: 5 km is 5000.
    A number without one of them, in the answer or the expected answer, stays as it is."""
    version: ClassVar[int] = 2
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = "abs_tol"

    def __post_init__(self) -> None:
        if not (0 <= self.abs_tol < math.inf and 0 <= self.rel_tol < math.inf):
            raise UseError("abs_tol and rel_tol must be 0 or more")
        if self.after == "":
            raise UseError("after is empty; give the text that stands before the number")
        for unit, factor in (self.units or {}).items():
            if not unit.strip() or not 0 < factor < math.inf:
                raise UseError(f"units: {quote(unit)} is {factor:g}; give a name, and a factor above 0")

    def __call__(self, answer: Answered) -> Judgement:
        right = [self._expected(answer, text) for text in references(answer)]
        found = self._converted(find_number(answer.text, self.decimal, self.after))
        if found is None:
            where = f" after {quote(self.after)}" if self.after else ""
            return passed(False, f"no number{where} in {quote(answer.text)}")
        if not math.isfinite(found.value):
            return passed(False, f"{quote(found.text)} is beyond the range of numbers")
        ok = any(self._equal(found, number) for number in right)
        return passed(ok, f"found {found.text[:60]}" + ("" if ok else f", expected {right[0].text[:60]}"))

    def _expected(self, answer: Answered, text: str) -> Found:
        plain = isinstance(answer.expected, (int, float)) and not isinstance(answer.expected, bool)
        found = self._converted(find_number(text, "." if plain else self.decimal))
        if found is None or not math.isfinite(found.value):
            raise ScorerError(f"case '{answer.case.id}': the expected answer {quote(text)} holds no number")
        return found

    def _converted(self, found: Found | None) -> Found | None:
        """The number in the units' common measure, its unit shown with it."""
        unit = self._unit.match(found.rest) if found and self._unit else None
        if found is None or unit is None:
            return found
        return found._replace(text=found.text + unit[0], value=found.value * (self.units or {})[unit[1]])

    @cached_property
    def _unit(self) -> re.Pattern[str] | None:
        """The longest unit that follows, in its own case (mW, MW), as a word."""
        names = sorted(self.units or {}, key=len, reverse=True)
        return re.compile(rf"\s?({'|'.join(map(re.escape, names))})(?!\w)") if names else None

    def _equal(self, found: Found, right: Found) -> bool:
        if found.percent and right.percent:
            pairs = [(found.value, right.value)]
        else:
            pairs = [(a, b) for a in found.readings for b in right.readings]
        return any(math.isclose(a, b, rel_tol=self.rel_tol, abs_tol=self.abs_tol) for a, b in pairs)
