"""What a scorer made of the repeats of one case by one variant, as a mark: ✓, ✗, 3/4."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from workbench.records import Kind, Score
from workbench.store.runs import TrialRow

Shade = Literal["yes", "no", "part", "fail", "none"]


class Mark(NamedTuple):
    """Colour is never alone: the sign says the same."""

    shade: Shade
    """All passed, none did, some did or in part; without an answer; not scored."""
    sign: str
    """`✓`, `✗`, `3/4`, `0.62`, `!`, `·`."""
    words: str


def mark(trials: Sequence[TrialRow] | None, scorer: str) -> Mark:
    """Of a scorer of passes or fractions. Repeats give a share."""
    if not trials:
        return Mark("none", "·", "not asked yet")
    scored = values(trials, scorer)
    if not scored:
        failed = any(t.output is not None and t.output.failure is not None for t in trials)
        return Mark("fail", "!", "failed") if failed else Mark("none", "·", "not scored")
    mean = sum(scored) / len(scored)
    shade: Shade = "yes" if mean >= 0.995 else "no" if mean <= 0.005 else "part"
    if shade != "part":
        sign = "✓" if shade == "yes" else "✗"
    elif set(scored) <= {0.0, 1.0}:
        sign = f"{sum(scored):.0f}/{len(scored)}"
    else:
        sign = f"{mean:.2f}"
    return Mark(shade, sign, f"{mean:.2f}")


def marking_scorer(scorers: Iterable[tuple[str, Kind]]) -> str:
    """The scorer that marks where none is named: the first of passes, else the first; empty where there is none."""
    kinds = dict(scorers)
    return next((name for name, kind in kinds.items() if kind == "pass"), next(iter(kinds), ""))


def values(trials: Sequence[TrialRow], scorer: str) -> list[float]:
    """The numbers that a scorer gave, one for each trial that it scored."""
    found = (_value(trial.scores, scorer) for trial in trials)
    return [value for value in found if value is not None]


def _value(scores: tuple[Score, ...], scorer: str) -> float | None:
    return next((float(s.value) for s in scores if s.scorer == scorer and isinstance(s.value, (int, float))), None)
