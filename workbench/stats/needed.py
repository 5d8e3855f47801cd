"""How many cases, or labels, a question needs: what all such answers share."""

from __future__ import annotations

import math

POWER = 0.8
MOST_CASES = 1e9
"""More are not told as needed: nothing can be done with such a number."""


def whole_cases(needed: float) -> int | None:
    """So many, rounded up; None for more than anybody will ask."""
    return math.ceil(needed) if needed <= MOST_CASES else None
