r"""The number that a free text gives.

Read are signs, thousands separators, decimals, exponents (`1e3`, `1.5 × 10^3`), fractions (`3/4`, `1 1/2`,
`\frac{3}{4}`), percent and currency signs, in the digits of any script. A number behind `####` (GSM8K,
Cobbe et al. 2021, arXiv 2110.14168) or in `\boxed{}` (MATH) is the answer; else the last one in the text is.
"""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar, Literal, NamedTuple

from workbench.errors import ScorerError, UseError
from workbench.records import Judgement
from workbench.scorers.base import Answered, passed, quote, references

FINAL = re.compile(r"####|\\boxed\s*\{")
TEX = [
    (re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}"), r"\1/\2"),
    (re.compile(r"(?<=\d)(?:\{,\}|\\[,!])(?=\d)"), ""),
    (re.compile(r"\\([%$])"), r"\1"),
]
"""LaTeX for what is written more plainly elsewhere."""
MINUS = "-−–－"
NUMBER = r"""
    (?<![A-Za-z0-9_])(?<!\d{point})(?<!\d/)          # not inside a word or number: H2O, 1.2.3, 12/05/2024
    (?:(?<![)\]%])(?P<sign>[-−–－+＋]))?
    (?:[$€£¥₹₩]\s?)?(?P<inner>[-−–－])?              # -$5 and $-5
    (?:(?P<whole>\d{{1,9}})[ ](?=\d+/\d))?           # the 1 of 1 1/2
    (?P<body>
        (?:\d{{1,3}}(?:[{group}]\d{{3}})+|\d{{1,2}}(?:[{group}]\d{{2}})+[{group}]\d{{3}})(?!\d)(?:{point}\d+)?
        | \d+(?:{point}\d+)? | {point}\d+ )
    (?:/(?P<below>\d+)(?![/\d]))?
    (?:[eE](?P<exponent>[-−+]?\d+)\b)?
    (?:\s?(?:[×x*·]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{{?(?P<power>[-−+]?\d+)\}}?)?
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
    for pattern, plain in TEX:
        text = pattern.sub(plain, text)
    starts = [text.rfind(after) + len(after)] if after else [m.end() for m in FINAL.finditer(text)]
    if after and after not in text:
        return None
    pattern = _pattern(decimal)
    marked = pattern.search(text, starts[-1]) if starts else None
    if marked or after:
        return _read(marked, decimal) if marked else None
    last = deque(pattern.finditer(text), maxlen=1)
    return _read(last[0], decimal) if last else None


@lru_cache(maxsize=2)
def _pattern(decimal: str) -> re.Pattern[str]:
    group = GROUPS + ("," if decimal == "." else ".")
    return re.compile(NUMBER.format(group=group, point=re.escape(decimal)), re.VERBOSE)


def _read(match: re.Match[str], decimal: str) -> Found:
    """The value; infinite where it is beyond a double's range."""
    digits = "".join(c for c in match["body"] if c.isdigit() or c == decimal).replace(decimal, ".")
    power = int((match["exponent"] or "0").replace("−", "-")[:6]) + int((match["power"] or "0").replace("−", "-")[:6])
    value = float(f"{digits}e{power}")
    if match["below"]:
        below = float(match["below"])
        value = value / below if below else math.inf
    value += float(match["whole"] or 0)
    negative = bool(match["inner"]) or (match["sign"] or "+") in MINUS
    return Found(
        match[0].strip(), -value if negative else value, bool(match["percent"]), match.string[match.end() :][:REST]
    )


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
    version: ClassVar[int] = 1
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
