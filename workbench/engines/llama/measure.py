"""How fast a model file is on this machine: prompts, and decoding alone and in company."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import psutil

from workbench.engines.base import Speed
from workbench.engines.llama.adapters import Adapter
from workbench.engines.llama.context import BATCH, Context, Shape

BATCHES = (1, 8, 32)
PREFIX = 64
"""Tokens before the first that is decoded, shared by all sequences."""
STEPS = 6
ROUNDS = 3


def measure(path: Path, name: str, threads: int, together: bool = True, adapters: Sequence[Adapter] = ()) -> Speed:
    """Medians of a few rounds; loads the file, with its adapters, and frees it again. A model that can't decode answers
    `together` is measured with one. Raises EngineError."""
    batches = BATCHES if together else BATCHES[:1]
    before = psutil.Process().memory_info().rss
    context = Context(path, Shape(2048, BATCH, threads, max(batches)), adapters=adapters)
    try:
        prompt = _rate(BATCH, lambda: _prompt(context, BATCH))
        decode = {batch: _rate(batch * STEPS, lambda b=batch: _decode(context, b)) for batch in batches}  # type: ignore[misc]
        return Speed(name, prompt, decode, max(0, psutil.Process().memory_info().rss - before))
    finally:
        context.close()


def _rate(tokens: int, work: Callable[[], float]) -> float:
    work()  # the first time is not counted: pages are read, threads start
    return tokens / statistics.median(work() for _ in range(ROUNDS))


def _prompt(context: Context, tokens: int) -> float:
    """Seconds for a prompt of so many tokens."""
    context.clear()
    for position in range(tokens):
        context.add(_token(context, position), position, 0, position == tokens - 1)
    return _timed(context)


def _decode(context: Context, batch: int) -> float:
    """Seconds for some steps of so many branches of one prefix."""
    _prompt(context, PREFIX)
    for sequence in range(1, batch):
        context.copy(0, sequence, PREFIX)
    seconds = 0.0
    for step in range(STEPS):
        for sequence in range(batch):
            context.add(_token(context, step * batch + sequence), PREFIX + step, sequence, True)
        seconds += _timed(context)
    return seconds


def _timed(context: Context) -> float:
    start = perf_counter()
    context.decode()
    context.row(0)
    return perf_counter() - start


def _token(context: Context, number: int) -> int:
    """Any token but the first few, which are often control tokens."""
    return 100 + number * 7 % max(1, context.vocabulary_size - 100)
