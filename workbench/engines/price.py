"""What an answer cost."""

from __future__ import annotations

from collections.abc import Mapping


def cost(price: Mapping[str, float] | None, prompt_tokens: int | None, output_tokens: int | None) -> float | None:
    """US dollars, from a price for a million tokens; None where price or tokens are unknown.

    >>> cost({"input": 0.15, "output": 0.6}, 1_000_000, 500_000)
    0.45
    """
    if price is None or prompt_tokens is None or output_tokens is None:
        return None
    if "input" not in price or "output" not in price:
        return None
    return (prompt_tokens * price["input"] + output_tokens * price["output"]) / 1_000_000
