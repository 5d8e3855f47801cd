"""What the scheduler asks of a request on its way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from workbench.engines.llama.context import Row


class Trial(Protocol):
    """One request on its way, as the scheduler sees it."""

    @property
    def continuations(self) -> Sequence[Sequence[int]]:
        """What is to be read after the prompt; none: an answer is sampled."""

    @property
    def path(self) -> Sequence[int]:
        """Prompt, and the answer so far."""

    @property
    def room(self) -> int:
        """How many tokens its answer may still have."""

    def draw(self, row: Row) -> int | None:
        """Takes the next token; None when the answer is over."""

    def read(self, choice: int, token: int, row: Row) -> bool:
        """Takes the log-probability of a choice's token; True when it was the last that was wanted."""
