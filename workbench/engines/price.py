"""What an answer cost."""

from __future__ import annotations

from collections.abc import Mapping

_BATCH = "batch_"


def cost(
    price: Mapping[str, float] | None, prompt_tokens: int | None, output_tokens: int | None, cached_tokens: int = 0
) -> float | None:
    """US dollars, from a price for a million tokens; None where price or tokens are unknown.

    `cached_tokens` are those of the prompt that the provider had at hand: they have a price of their own where
    it is known, else that of the others.

    >>> cost({"input": 0.15, "output": 0.6}, 1_000_000, 500_000)
    0.45
    >>> cost({"input": 1.0, "output": 2.0, "cached_input": 0.1}, 1_000_000, 0, 500_000)
    0.55
    """
    if price is None or prompt_tokens is None or output_tokens is None:
        return None
    if "input" not in price or "output" not in price:
        return None
    cached = min(max(cached_tokens, 0), prompt_tokens)
    asked = (prompt_tokens - cached) * price["input"] + cached * price.get("cached_input", price["input"])
    return (asked + output_tokens * price["output"]) / 1_000_000


def batch_price(price: Mapping[str, float] | None, factor: float | None = None) -> Mapping[str, float] | None:
    """The price in a batch, in the same form: its own, else `factor` times that of single calls, where the host says
    so; None where it is unknown: what a batch saves is never assumed.

    >>> batch_price({"input": 1.0, "output": 2.0}, 0.5)
    {'input': 0.5, 'output': 1.0}
    >>> batch_price({"input": 1.0, "output": 2.0, "batch_input": 0.5, "batch_output": 1.0})
    {'input': 0.5, 'output': 1.0}
    """
    own = {name.removeprefix(_BATCH): value for name, value in (price or {}).items() if name.startswith(_BATCH)}
    if {"input", "output"} <= own.keys():
        return own
    if price is None or factor is None:
        return None
    return {name: factor * value for name, value in price.items() if not name.startswith(_BATCH)}
