"""Which choice is likeliest, by its log-likelihood as it is, or divided by the choice's length.

For answers by log-likelihood (`answer: {choices: …}` on an engine that reports them). Undivided it is `acc` of
lm-evaluation-harness, by character its `acc_norm`, by byte `acc_bytes` (`lm_eval/api/task.py`, process_results).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from workbench.errors import ScorerError
from workbench.records import Judgement
from workbench.scorers.base import Answered, not_judged, passed, quote, references


@dataclass(frozen=True)
class Likeliest:
    """The choice that is likeliest, of equals the first, is the expected one; of a list, one of them."""

    per: Literal["choice", "character", "byte"] = "choice"
    """What the log-likelihood is divided by: nothing, the choice's characters, or its bytes in UTF-8."""
    lead: str = ""
    """What every choice begins with, such as a space: it belongs neither to its length nor to the expected answer."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = "per"

    def __call__(self, answer: Answered) -> Judgement:
        told = answer.output.extra.get("choices")
        if not isinstance(told, (list, tuple)) or not told:
            return not_judged("pass", "the engine reported no log-probabilities of choices")
        rates = {str(c["text"]).removeprefix(self.lead): float(c["logprob"]) for c in told}
        right = references(answer)
        if not rates.keys() & set(right):
            raise ScorerError(f"the expected answer {', '.join(map(quote, right))} is none of the choices")
        if "" in rates or any(math.isnan(value) for value in rates.values()):
            return not_judged("pass", "a choice is empty, or its likelihood is no number")
        rates = {text: value / self._size(text) for text, value in rates.items()}
        best = max(rates, key=lambda text: rates[text])
        unit = "" if self.per == "choice" else f" a {self.per}"
        ok = best in right
        wanted = "" if ok else f", expected {quote(right[0])}"
        return passed(ok, f"likeliest {quote(best)}, {rates[best]:.3f}{unit}{wanted}")

    def _size(self, text: str) -> int:
        return {"choice": 1, "character": len(text), "byte": len(text.encode())}[self.per]
