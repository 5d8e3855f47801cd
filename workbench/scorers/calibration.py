"""How far the probabilities that a model gives to the choices can be believed, and how likely it finds a text.

For answers by log-likelihood (`answer: {choices: …}` on an engine that reports them): the choices' total
log-probabilities are turned into probabilities that sum to 1 (softmax), and held against what was right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from workbench.errors import ScorerError
from workbench.records import Judgement
from workbench.scorers.base import Answered, judged, not_judged, quote, references
from workbench.scorers.text import fold


def softmax(logprobs: dict[str, float]) -> dict[str, float]:
    """Probabilities in proportion to exp(logprob); -inf is 0."""
    top = max(logprobs.values())
    weights = {name: math.exp(value - top) for name, value in logprobs.items()}
    total = math.fsum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def brier_score(probabilities: dict[str, float], right: set[str]) -> float:
    """Σ (probability − outcome)² over the choices, 0…2 (Brier 1950, Monthly Weather Review 78:1). Several right
    choices count as one."""
    hit = math.fsum(p for name, p in probabilities.items() if name in right)
    return (1 - hit) ** 2 + math.fsum(p * p for name, p in probabilities.items() if name not in right)


@dataclass(frozen=True)
class Calibration:
    """The Brier score of the choices' probabilities, 0 (sure and right) to 2 (sure and wrong), as a number."""

    measure: Literal["brier", "log", "confidence"] = "brier"
    """`log`: −ln of the right choice's probability (in nat); `confidence`: the probability of the likeliest choice,
    as a fraction, which `expected_calibration_error` of the statistics holds against how often it was right."""
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = "measure"

    @property
    def needs_expected(self) -> bool:
        return self.measure != "confidence"

    def __call__(self, answer: Answered) -> Judgement:
        kind: Literal["fraction", "number"] = "fraction" if self.measure == "confidence" else "number"
        chances = _probabilities(answer)
        if chances is None:
            return not_judged(kind, "the engine reported no log-probabilities of choices")
        likeliest = max(chances, key=lambda name: chances[name])
        if self.measure == "confidence":
            return judged(chances[likeliest], kind, f"{chances[likeliest]:.3f} for {quote(likeliest)}")
        right = _right(answer, chances)
        hit = math.fsum(chances[name] for name in right)
        reason = f"{hit:.3f} for {' or '.join(map(quote, sorted(right)))}, likeliest {quote(likeliest)}"
        if self.measure == "brier":
            return judged(brier_score(chances, right), kind, reason)
        if hit == 0:
            return not_judged(kind, f"the right choice has probability 0; {reason}")
        return judged(-math.log(min(hit, 1.0)), kind, reason)


@dataclass(frozen=True)
class Perplexity:
    """exp(−log-likelihood / tokens) of the text that `answer: {text: …}` gives the model to read: 1 is sure of each
    token, n as unsure as among n equal ones. Between models it can be compared only where they have the same tokens."""

    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = None

    def __call__(self, answer: Answered) -> Judgement:
        told = answer.output.extra.get("choices")
        if not isinstance(told, (list, tuple)) or len(told) != 1:
            return not_judged("number", "the model was given no single text (answer: {text: …})")
        total, tokens = float(told[0]["logprob"]), int(told[0]["tokens"])
        try:
            value = math.exp(-total / tokens)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            return not_judged("number", "the model holds the text for impossible")
        return judged(value, "number", f"log-likelihood {total:.3f} of {tokens} tokens")


def _probabilities(answer: Answered) -> dict[str, float] | None:
    """Each choice's probability; None where the engine told none, or no choice has any."""
    told = answer.output.extra.get("choices")
    if not isinstance(told, (list, tuple)) or not told:
        return None
    logprobs = {str(choice["text"]): float(choice["logprob"]) for choice in told}
    if any(math.isnan(value) for value in logprobs.values()) or max(logprobs.values()) == -math.inf:
        return None
    return softmax(logprobs)


def _right(answer: Answered, chances: dict[str, float]) -> set[str]:
    """The choices that are expected, by the choice scorer's comparison: case and white space aside."""
    forms = {fold(text.strip(), ignore_case=True) for text in references(answer)}
    right = {name for name in chances if fold(name.strip(), ignore_case=True) in forms}
    if not right:
        expected = ", ".join(map(quote, references(answer)))
        raise ScorerError(f"the expected answer {expected} is none of the choices: {', '.join(chances)}")
    return right
