"""Long output on a terminal goes through a pager, as git's does; what fits the screen, or is piped, does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import click
from rich.console import Console, RenderableType


def print_paged(console: Console, parts: Iterable[RenderableType]) -> None:
    """Prints the parts as they come; on a terminal through `PAGER` where they are longer than the screen."""
    if not console.is_terminal:
        for part in parts:
            console.print(part)
        return
    texts = _texts(console, parts)
    first: list[str] = []
    for text in texts:
        first.append(text)
        if sum(part.count("\n") for part in first) >= console.height:
            click.echo_via_pager(chain(first, texts), color=console.color_system is not None)
            return
    click.echo("".join(first), nl=False, color=console.color_system is not None)


def _texts(console: Console, parts: Iterable[RenderableType]) -> Iterator[str]:
    for part in parts:
        with console.capture() as captured:
            console.print(part)
        yield captured.get()
