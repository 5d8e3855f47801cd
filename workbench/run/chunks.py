"""Requests that are answered later, cut into batches of what a provider takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench.run.budget import Use


@dataclass(slots=True)
class Chunk:
    """The requests of one batch; all of one model."""

    model: str
    requests: list[str] = field(default_factory=list)
    """Their ids."""
    bytes: int = 0
    use: Use = field(default_factory=Use)
    """What they may take at most."""
    bounded: bool = True
    """`use` is such a bound: no request lacks its max_tokens."""


@dataclass(slots=True)
class Chunks:
    """Fills one chunk after the other, each up to the limits of its model's provider."""

    limits: dict[str, tuple[int, int]]
    """Alias → requests and bytes in a batch at most."""
    done: list[Chunk] = field(default_factory=list)
    """All chunks, in the order in which they were begun."""
    _filling: dict[str, Chunk] = field(default_factory=dict)

    def add(self, model: str, request: str, size: int, use: Use, *, bounded: bool = True) -> None:
        """Adds a request of so many bytes. One that is larger than a whole batch may be stands alone."""
        most, most_bytes = self.limits[model]
        chunk = self._filling.get(model)
        if chunk is None or len(chunk.requests) >= most or chunk.bytes + size > most_bytes:
            chunk = self._filling[model] = Chunk(model)
            self.done.append(chunk)
        chunk.requests.append(request)
        chunk.bytes += size
        chunk.use += use
        chunk.bounded = chunk.bounded and bounded
