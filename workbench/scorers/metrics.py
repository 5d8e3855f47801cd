"""Overlap of the answer with reference texts, by the measures that papers report.

Each is the value of its reference package, as a fraction: sacrebleu (Post 2018, arXiv 1804.08771) for BLEU
(Papineni et al. 2002) and chrF (Popović 2015), rouge-score for ROUGE (Lin 2004). They judge one text at a
time; the mean of sentence BLEU over cases is not corpus BLEU. Of a list of expected answers, BLEU and chrF
take them as several references, ROUGE takes the one that gives most.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from workbench.errors import ScorerError, UseError
from workbench.records import Judgement
from workbench.scorers.base import Answered, judged, passed, quote, references


def check_share(at_least: float | None) -> None:
    """Raises UseError for a bound that no fraction has."""
    if at_least is not None and not 0 <= at_least <= 1:
        raise UseError(f"at_least {at_least:g} is not between 0 and 1; scores are fractions, so 27 % is 0.27")


def share(value: float, reason: str, at_least: float | None) -> Judgement:
    """A fraction as it is, or, with a bound, whether it reaches it."""
    if at_least is None:
        return judged(value, "fraction", reason)
    return passed(value >= at_least, f"{reason}, wanted {at_least:g}")


def _sentence_score(metric: BLEU | CHRF, answer: Answered) -> tuple[float, str]:
    """The fraction, and the score as it is usually printed (of 100) with sacrebleu's signature."""
    found = metric.sentence_score(answer.text, references(answer))
    return min(found.score / 100, 1.0), f"{found.name} {found.score:.2f} ({metric.get_signature()})"


@dataclass(frozen=True)
class Bleu:
    """Sentence BLEU against the expected answer: shared runs of one to four words, as a fraction. Orders that
    the answer is too short for are left out (effective order); counts of 0 are smoothed exponentially."""

    at_least: float | None = None
    """With it, pass or fail."""
    tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    """sacrebleu's tokenizers: `zh` for Chinese, `char` for scripts without spaces."""
    ignore_case: bool = False
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = "at_least"

    def __post_init__(self) -> None:
        check_share(self.at_least)

    def __call__(self, answer: Answered) -> Judgement:
        return share(*_sentence_score(self._metric, answer), self.at_least)

    @cached_property
    def _metric(self) -> BLEU:
        return BLEU(lowercase=self.ignore_case, tokenize=self.tokenize, effective_order=True)


@dataclass(frozen=True)
class Chrf:
    """chrF against the expected answer: F₂ over shared runs of one to six characters, as a fraction."""

    at_least: float | None = None
    """With it, pass or fail."""
    word_order: Literal[0, 1, 2] = 0
    """2 counts runs of up to two words beside the characters: chrF++ (Popović 2017)."""
    ignore_case: bool = False
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = "at_least"

    def __post_init__(self) -> None:
        check_share(self.at_least)

    def __call__(self, answer: Answered) -> Judgement:
        return share(*_sentence_score(self._metric, answer), self.at_least)

    @cached_property
    def _metric(self) -> CHRF:
        return CHRF(word_order=self.word_order, lowercase=self.ignore_case)


@dataclass(frozen=True)
class Rouge:
    """ROUGE F₁ against the expected answer: shared words (`1`), pairs (`2`) or longest common subsequence (`L`).
    The package lowers case and knows only the letters a–z and digits: for other scripts use `chrf`."""

    at_least: float | None = None
    """With it, pass or fail."""
    variant: Literal["1", "2", "L"] = "L"
    stem: bool = False
    """Porter's stemmer: "runs" is "run"."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = "at_least"

    def __post_init__(self) -> None:
        check_share(self.at_least)

    def __call__(self, answer: Answered) -> Judgement:
        best, nearest = max((self._score(answer, right), right) for right in references(answer))
        return share(best[0], f"{best[1]}, against {quote(nearest)}", self.at_least)

    def _score(self, answer: Answered, right: str) -> tuple[float, str]:
        if not re.search("[a-z0-9]", right.lower()):
            raise ScorerError(
                f"case '{answer.case.id}': ROUGE reads only a–z and 0–9, and {quote(right)} has none; use chrf"
            )
        kind = f"rouge{self.variant}"
        found = self._scorer.score(right, answer.text)[kind]
        parts = f"precision {found.precision:.3f}, recall {found.recall:.3f}"
        return float(found.fmeasure), f"ROUGE-{self.variant} {found.fmeasure:.3f} ({parts})"

    @cached_property
    def _scorer(self) -> Any:
        from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

        return RougeScorer([f"rouge{self.variant}"], use_stemmer=self.stem)
