"""How numbers, ids and foreign text are written for people: always with what they rest on, never raw.

Light on purpose: the command line imports this module at its start.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.records import Json, Kind

if TYPE_CHECKING:
    from workbench.stats.paired import PairedComparison
    from workbench.stats.summary import VariantSummary

NONE = "–"
LEFT_OUT = "quarantined cases left out"
"""Heads a column with how many these are."""
ROUNDING = 1e-12
"""What is smaller is a rounding error of equal numbers."""
MINUS = "−"
LARGE, SMALL, DECIMALS = 1e15, 1e-6, 12
"""Sizes from which, and below which, a number that would need more decimals is written with its power of ten."""

UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, terminal escapes among them; tab and newline are kept
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the direction of text
    "\u00ad\u200b\u2028\u2029\u2060-\u2064\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # can't be seen
    "\ud800-\udfff]"  # no characters
)
"""What could steer a terminal, reorder text or hide in it."""


def printable(text: str) -> str:
    """Text with everything that could steer a terminal, reorder or hide made visible: `␛[31m`, `⟨U+202E⟩`.

    Newlines and tabs stay; use `one_line` where they may not."""
    return UNSAFE.sub(lambda found: _visible(ord(found.group())), text)


def one_line(text: str) -> str:
    """Printable text on one line."""
    return printable(text).replace("\n", "␊").replace("\t", "␉")


def shorten(text: str, limit: int) -> str:
    """At most about `limit` characters, with a note on what is left out."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… [{limit:,} of {len(text):,} characters shown]"


def plural(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def held_together(comparisons: Sequence[PairedComparison], also: str = "") -> str:
    """What a table's differences are, for the line below it; empty where nothing is compared. `also` names what holds
    for all of them beside the intervals, such as ` and p-values`."""
    if not comparisons:
        return ""
    points = "" if comparisons[0].kind == "number" else ", in points"
    if len(comparisons) == 1:
        return f"The difference is to the reference, on common cases{points}."
    many = f"all {len(comparisons):,} of them" if len(comparisons) > 2 else "both of them"
    what = f"Differences are to the reference, on common cases{points}"
    return f"{what}; their intervals{also} hold for {many} together."


def number(value: float, spread: float | None = None) -> str:
    """A number with as many digits as its uncertainty leaves: two of `spread`; four where there is none. Very large and
    very small ones are written as `1.2e30`."""
    if abs(value) < ROUNDING and not spread:
        value = 0.0
    size = abs(spread) if spread else abs(value) / 100
    if size == 0 or not math.isfinite(size):
        return f"{value:g}"
    digits = 1 - math.floor(math.log10(size))
    rounded, largest = round(value, digits), max(abs(value), size)
    if rounded and (largest >= LARGE or (largest < SMALL and digits > DECIMALS)):
        places = math.floor(math.log10(abs(rounded))) + digits
        return f"{rounded:.{min(15, max(0, places))}e}".replace("e+", "e").replace("-", MINUS)
    decimals = 0 if digits > DECIMALS and not rounded else max(0, digits)
    return f"{rounded:,.{decimals}f}".replace("-", MINUS)


def percent(share: float, spread: float | None = None) -> str:
    """A share in percent, without its sign: whole, or with a decimal where the interval is below a point."""
    decimals = 1 if spread is not None and 0 < spread < 0.005 else 0
    text = f"{100 * share:.{decimals}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("-")


def interval(bounds: tuple[float, float] | None, kind: Kind) -> str:
    """`[66, 84]` in percent, or in the number's own unit; empty where there is none."""
    if bounds is None:
        return ""
    half = (bounds[1] - bounds[0]) / 2
    write = number if kind == "number" else percent
    return f"[{write(bounds[0], half)}, {write(bounds[1], half)}]"


def estimate(summary: VariantSummary) -> str:
    """A mean with its interval: `76 % [66, 84]`, `1.23 [1.10, 1.36]`; for labels the most frequent."""
    if summary.mean is None:
        return ", ".join(f"{one_line(label)} {count}" for label, count in summary.counts[:3]) or NONE
    half = None if summary.interval is None else (summary.interval[1] - summary.interval[0]) / 2
    mean = number(summary.mean, half) if summary.kind == "number" else percent(summary.mean, half) + " %"
    return f"{mean} {interval(summary.interval, summary.kind) or '[?]'}"


def difference(comparison: PairedComparison) -> str:
    """A difference with its interval: `+9 [2, 16]`, in points of percent or the number's own unit."""
    if comparison.difference is None:
        return NONE
    bounds = comparison.interval
    half = None if bounds is None else (bounds[1] - bounds[0]) / 2
    write = number if comparison.kind == "number" else percent
    sign = "+" if comparison.difference > 0 else ""
    return f"{sign}{write(comparison.difference, half)} {interval(bounds, comparison.kind) or '[?]'}"


def effect(comparison: PairedComparison) -> str:
    """Its effect sizes: `d 0.31 [0.10, 0.52], odds 3.2 [1.4, 8.1]`; empty where there are none."""
    found, parts = comparison.effect, []
    if found is None:
        return ""
    for name, value, bounds in (("d", found.d, found.d_interval), ("odds", found.odds, found.odds_interval)):
        if value is not None and bounds is not None:
            low, high = (f"{end:.2f}".replace("-", MINUS).replace("inf", "∞") for end in bounds)
            parts.append(f"{name} {value:.2f} [{low}, {high}]".replace("-", MINUS).replace("inf", "∞"))
    return ", ".join(parts)


def verdict(comparison: PairedComparison) -> str:
    """A comparison's verdict, with what would settle it where it is open: `not enough data (120 more cases)`."""
    more = comparison.more_cases
    return comparison.verdict + (f" ({plural(more, 'more case')})" if more else "")


def left_out(quarantined: int, before: str = "") -> str:
    """How many cases are in quarantine, for whatever shows a number: `2 quarantined cases left out`, with what parts it
    from the words before it; empty for 0."""
    return f"{before}{plural(quarantined, 'quarantined case')} left out" if quarantined else ""


def p_value(p: float | None) -> str:
    if p is None:
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def seconds(value: float | None) -> str:
    """A duration: `12 ms`, `3.4 s`, `2 min 03 s`, `1 h 05 min`."""
    if value is None:
        return NONE
    if value < 0.9995:
        return f"{1000 * value:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def money(dollars: float | None) -> str:
    """US dollars; an unknown price is unknown, never 0."""
    if dollars is None:
        return "unknown"
    if dollars == 0:
        return "$0"
    return f"${dollars:,.2f}" if dollars >= 1 else f"${dollars:.2g}" if dollars >= 0.0001 else "<$0.0001"


def tokens(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def work_line(work: Mapping[str, float]) -> str:
    """What a local engine counted: `41,200 tokens asked, 3,100 evaluated, 38,100 shared; llama_decode 96 % of 12 s`."""
    asked, evaluated, again = (int(work.get(name, 0)) for name in ("asked", "evaluated", "again"))
    parts = f"{asked:,} tokens asked, {evaluated:,} evaluated, {max(0, asked - evaluated):,} shared"
    if again:
        parts += f", {again:,} evaluated again"
    spent = work.get("seconds", 0.0)
    return f"{parts}; llama_decode {percent(work['decode_seconds'] / spent)} % of {seconds(spent)}" if spent else parts


def short_id(identity: str, length: int = 8) -> str:
    """An id that can be read aloud: its scheme and the first characters of its hash."""
    scheme, dash, rest = identity.partition("-")
    return f"{scheme}-{rest[:length]}" if dash else identity[:length]


def _visible(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def retrieved(found: Mapping[str, Json]) -> list[str]:
    """Which passages were looked up, the best first, and their scores; not their texts."""
    passages = [passage for passages in found.values() for passage in passages]
    return [one_line(f"{p.get('id')} ({p.get('score')})") for p in passages] or ["nothing"]
