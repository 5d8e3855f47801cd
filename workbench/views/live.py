"""A run while it goes, on stderr: how far, how fast, how long still, what it costs, the scores so far.

On a terminal a table that is redrawn; elsewhere a line every ten seconds. Means and their intervals rest on the cases
scored by then, whose block may not be whole, and say so; they are computed now and then, so that the run is not slowed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from workbench.errors import UseError
from workbench.records import Json
from workbench.stats.summary import summarise
from workbench.stats.tally import Tally
from workbench.views.format import NONE, estimate, left_out, one_line, plural
from workbench.views.looks import look_line

LINE_EVERY_SECONDS = 10.0
MEANS_EVERY_SECONDS = 1.0
MEANS_SHARE = 0.02
"""The most of the time that means may take."""
MOST_ROWS = 24


class Judged(Protocol):
    """How far scorers that ask models, or the embedding of texts, are (`asking.Judging`)."""

    @property
    def planned(self) -> int: ...
    @property
    def done(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def reused(self) -> int: ...
    @property
    def cost(self) -> float: ...


class Standing(Protocol):
    """What is shown of a run (`evaluate.Progress`)."""

    @property
    def planned(self) -> int: ...
    @property
    def done(self) -> int: ...
    @property
    def reused(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def cost(self) -> float: ...
    @property
    def unpriced(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def judging(self) -> Judged: ...
    @property
    def retrieving(self) -> Judged: ...
    @property
    def tally(self) -> Mapping[str, Tally]: ...
    @property
    def stopping(self) -> Mapping[str, Json]: ...


class LiveView:
    """Shows a run's standing; use as a context manager, call it with each new standing. `quarantined` cases count in
    none of its means."""

    def __init__(
        self, labels: Mapping[str, str], scorers: Sequence[str], console: Console, quarantined: int = 0
    ) -> None:
        self._labels, self._scorers, self._console, self._quarantined = labels, scorers, console, quarantined
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._shown = 0.0
        self._means: dict[tuple[str, str], str] = {}
        self._due = time.monotonic() + MEANS_EVERY_SECONDS

    def __enter__(self) -> LiveView:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, standing: Standing) -> None:
        now = time.monotonic()
        if self._live:
            done, planned = _how_far(standing)
            if now - self._shown > 0.1 or done == planned:
                self._shown = now
                self._live.update(self._drawn(standing), refresh=True)
        elif now - self._shown > LINE_EVERY_SECONDS:
            self._shown = now
            line = " · ".join([standing_line(standing), *self._look(standing)])
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _drawn(self, standing: Standing) -> Group:
        done, planned = _how_far(standing)
        bar = ProgressBar(total=max(1, planned), completed=done, width=40)
        lines = [Text(line) for line in (standing_line(standing), *self._look(standing))]
        self._count(standing)
        return Group(bar, *lines, self._scores()) if self._means else Group(bar, *lines)

    def _count(self, standing: Standing) -> None:
        """Means anew, where it is time."""
        began = time.monotonic()
        if began < self._due:
            return
        first = not self._means  # loads what computes intervals, once
        for scorer, tally in list(standing.tally.items()):
            self._means |= _means(scorer, tally)
        took = 0.0 if first else time.monotonic() - began
        self._due = began + max(MEANS_EVERY_SECONDS, took / MEANS_SHARE)

    def _look(self, standing: Standing) -> list[str]:
        """How far a run with `until` or `race` is from being settled."""
        return [look_line(standing.stopping, self._labels)] if "looks_made" in standing.stopping else []

    def _scores(self) -> Table:
        table = Table(box=None, pad_edge=False, caption_justify="left")
        table.caption = f"so far, incomplete{left_out(self._quarantined, '; ')}"
        table.add_column("variant", overflow="fold")
        for scorer in self._scorers:
            table.add_column(one_line(scorer), justify="right")
        for variant, label in list(self._labels.items())[:MOST_ROWS]:
            table.add_row(one_line(label), *(self._means.get((variant, s), NONE) for s in self._scorers))
        return table


def standing_line(standing: Standing) -> str:
    """`312/960 trials · 40 reused · 18.4/s · 0:35 left · 2 failed · $0.0123`; while passages are looked up
    `128/267 texts embedded · …`."""
    if not standing.planned and standing.retrieving.planned:
        told = standing.retrieving
        cost = [f"${told.cost:.4f}"] if told.cost else []
        return " · ".join([*_pace(_how_far(standing), told.reused, standing.seconds, "texts embedded"), *cost])
    parts = _pace(_how_far(standing), standing.reused, standing.seconds, "trials")
    if standing.judging.planned:
        parts.append(f"{standing.judging.done}/{standing.judging.planned} judged")
    if standing.failed:
        parts.append(f"{standing.failed} failed")
    if standing.cost:
        parts.append(f"${standing.cost:.4f}")
    if standing.unpriced:
        parts.append(f"{plural(standing.unpriced, 'answer')} of unknown price")
    return " · ".join(parts)


def _how_far(standing: Standing) -> tuple[int, int]:
    """What is done, of how much: of the trials, or before there are any of the texts to embed."""
    told = standing.retrieving
    if standing.planned or not told.planned:
        return standing.done, standing.planned
    return min(told.requests + told.reused, told.planned), told.planned


def _pace(how_far: tuple[int, int], reused: int, seconds: float, what: str) -> list[str]:
    done, planned = how_far
    rate = max(done - reused, 0) / seconds if seconds else 0.0
    parts = [f"{done}/{planned} {what}", *([f"{reused} reused"] if reused else [])]
    if rate:
        minutes, left = divmod(round((planned - done) / rate), 60)
        parts += [f"{rate:.1f}/s", f"{minutes}:{left:02} left"]
    return parts


def _means(scorer: str, tally: Tally) -> dict[tuple[str, str], str]:
    """(variant, scorer) → `76 % [66, 84] (96)`, with the number of cases."""
    try:
        found = summarise(tally.so_far())
    except UseError:  # infinities, which have no mean
        return {}
    return {(s.variant, scorer): f"{estimate(s)} ({s.cases:,})" for s in found if s.cases}
