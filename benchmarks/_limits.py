"""What limits evaluation on this machine: bare `llama_decode` in contexts made one way and another.

A job's `context` names fields of `llama_context_params` that differ from the engine's own, such as
`flash_attn_type`, `kv_unified` and `n_ubatch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from workbench.engines.llama.context import Context, Shape

PREFIX = 280
"""Tokens before the ones that are decoded, as in the sweep."""
TOKEN = 1000
"""Any token does: what is computed does not depend on it."""


def decode(job: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens/s of steps that carry one token of each of `width` sequences, after a prefix that is shared
    (`share`), or that each sequence has for itself."""
    width, steps = job["width"], job["steps"]
    cells = PREFIX + width * (steps + 1) if job["share"] else width * (PREFIX + steps + 1)
    with _opened(job, cells, width) as opened:
        for sequence in range(1 if job["share"] else width):
            _evaluate(opened, sequence)
        for sequence in range(1, width if job["share"] else 1):
            opened.copy(0, sequence, PREFIX)
        taken = [_step(opened, width, PREFIX + step) for step in range(steps + 1)]
    return {"rate": width / median(taken[1:])}


def prompt(job: Mapping[str, Any]) -> dict[str, Any]:
    """Prompt tokens/s, `batch` at a time, up to 1,024 tokens."""
    tokens = 1024
    with _opened(job, tokens, 1) as opened:
        _evaluate(opened, 0, 64)
        opened.clear()
        start = perf_counter()
        _evaluate(opened, 0, tokens)
        return {"rate": tokens / (perf_counter() - start)}


@contextmanager
def _opened(job: Mapping[str, Any], cells: int, sequences: int) -> Iterator[Context]:
    cells = -(-cells // 256) * 256
    shape = Shape(cells, job.get("batch", 512), job["threads"], sequences)
    opened = Context(Path(job["model"]), shape, job.get("context", {}))
    try:
        yield opened
    finally:
        opened.close()


def _evaluate(opened: Context, sequence: int, count: int = PREFIX) -> None:
    for start in range(0, count, opened.batch):
        end = min(start + opened.batch, count)
        for position in range(start, end):
            opened.add(TOKEN + position, position, sequence, position == count - 1)
        opened.decode()


def _step(opened: Context, width: int, position: int) -> float:
    for sequence in range(width):
        opened.add(TOKEN + sequence, position, sequence, True)
    start = perf_counter()
    opened.decode()
    return perf_counter() - start
