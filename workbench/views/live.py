"""A run while it goes, on stderr: how far, how fast, how long still, what it costs, the scores so far.

On a terminal a table that is redrawn; elsewhere a line every ten seconds.
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

from workbench.views.format import one_line

LINE_EVERY_SECONDS = 10.0
MOST_ROWS = 24


class Judged(Protocol):
    """How far scorers that ask models are (`asking.Judging`)."""

    @property
    def planned(self) -> int: ...
    @property
    def done(self) -> int: ...


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
    def tally(self) -> Mapping[tuple[str, str], tuple[float, int]]: ...


class LiveView:
    """Shows a run's standing; use as a context manager, call it with each new standing."""

    def __init__(self, labels: Mapping[str, str], scorers: Sequence[str], console: Console) -> None:
        self._labels, self._scorers, self._console = labels, scorers, console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._shown = 0.0

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
            if now - self._shown > 0.1 or standing.done == standing.planned:
                self._shown = now
                self._live.update(self._drawn(standing), refresh=True)
        elif now - self._shown > LINE_EVERY_SECONDS:
            self._shown = now
            self._console.print(standing_line(standing), markup=False, highlight=False, soft_wrap=True)

    def _drawn(self, standing: Standing) -> Group:
        bar = ProgressBar(total=max(1, standing.planned), completed=standing.done, width=40)
        line = Text(standing_line(standing))
        return Group(bar, line, self._scores(standing)) if standing.tally else Group(bar, line)

    def _scores(self, standing: Standing) -> Table:
        table = Table(box=None, pad_edge=False, caption="so far, incomplete", caption_justify="left")
        table.add_column("variant", overflow="fold")
        for scorer in self._scorers:
            table.add_column(one_line(scorer), justify="right")
        for variant, label in list(self._labels.items())[:MOST_ROWS]:
            table.add_row(one_line(label), *(_mean(standing.tally.get((variant, s))) for s in self._scorers))
        return table


def standing_line(standing: Standing) -> str:
    """`312/960 trials · 40 reused · 18.4/s · 0:35 left · 2 failed · $0.0123`."""
    asked = standing.done - standing.reused
    rate = asked / standing.seconds if standing.seconds else 0.0
    parts = [f"{standing.done}/{standing.planned} trials"]
    if standing.reused:
        parts.append(f"{standing.reused} reused")
    if rate:
        minutes, seconds = divmod(round((standing.planned - standing.done) / rate), 60)
        parts += [f"{rate:.1f}/s", f"{minutes}:{seconds:02} left"]
    if standing.judging.planned:
        parts.append(f"{standing.judging.done}/{standing.judging.planned} judged")
    if standing.failed:
        parts.append(f"{standing.failed} failed")
    if standing.cost:
        parts.append(f"${standing.cost:.4f}")
    if standing.unpriced:
        parts.append(f"{standing.unpriced} answers of unknown price")
    return " · ".join(parts)


def _mean(tally: tuple[float, int] | None) -> str:
    return f"{tally[0] / tally[1]:.3g}  ({tally[1]})" if tally else "–"
