"""How good retrieval was, by what was retrieved for a case; and how much of the answer stands in it.

The passages are an input of the case: those that the suite's `retrieve` put there, or a field of the data, such as what
another system retrieved. Each is a mapping with an `id`, a `document`, or both; a `text`; the best comes first. The
expected answer names what is relevant: documents or passages, by id.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import regex

from workbench.errors import ScorerError, UseError
from workbench.records import Json, Judgement
from workbench.scorers.base import MOST_VALUE, Answered, judged, quote, references

_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\w--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]]+", regex.V1
)


@dataclass(frozen=True)
class _Ranked:
    """What the measures of a ranking share."""

    k: int | None = None
    """Only the first k count; None: all that were retrieved."""
    passages: str = "passages"
    """The input that holds the passages."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = "k"

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise UseError(f"k is {self.k}; it has to be at least 1")

    def _gains(self, answer: Answered, relevant: Mapping[str, float]) -> list[float]:
        """For each of the first k passages what it is worth; what was found before is worth nothing again."""
        left = dict(relevant)
        passages = retrieved(answer, self.passages)[: self.k]
        return [
            max((left.pop(str(p[key]), 0.0) for key in ("document", "id") if key in p), default=0.0) for p in passages
        ]


@dataclass(frozen=True)
class RecallAtK(_Ranked):
    """The share of what is relevant that is among the first k passages (Manning, Raghavan & Schütze 2008, Introduction
    to Information Retrieval, 8.3–8.4)."""

    def __call__(self, answer: Answered) -> Judgement:
        relevant = _relevant(answer)
        found = sum(gain > 0 for gain in self._gains(answer, relevant))
        return judged(found / len(relevant), "fraction", f"{found} of {len(relevant)} found, {_list(answer, self)}")


@dataclass(frozen=True)
class ReciprocalRank(_Ranked):
    """1 ÷ the rank of the first relevant passage, 0 where there is none; its mean over cases is the MRR (Voorhees 1999,
    The TREC-8 Question Answering Track Report)."""

    def __call__(self, answer: Answered) -> Judgement:
        gains = self._gains(answer, _relevant(answer))
        rank = next((i for i, gain in enumerate(gains, 1) if gain > 0), None)
        told = "nothing relevant" if rank is None else f"relevant at rank {rank}"
        return judged(1 / rank if rank else 0.0, "fraction", f"{told}, {_list(answer, self)}")


@dataclass(frozen=True)
class Ndcg(_Ranked):
    """Discounted cumulative gain of the first k passages ÷ that of the best order, Σ gain / log2(rank + 1) (Järvelin &
    Kekäläinen 2002, ACM TOIS 20:422, with the discount of trec_eval). The gain is 1, or what the expected answer says:
    {id: grade}."""

    def __call__(self, answer: Answered) -> Judgement:
        relevant = _relevant(answer)
        best = _discounted(sorted(relevant.values(), reverse=True)[: self.k])
        value = _discounted(self._gains(answer, relevant)) / best
        return judged(min(value, 1.0), "fraction", f"{value:.3f} of the best order, {_list(answer, self)}")


@dataclass(frozen=True)
class Grounded:
    """The share of the answer's words that stand in the passages (ROUGE-1 precision: Lin 2004, ROUGE, with the passages
    as reference). It looks at words alone: a sentence said in other words counts as little, a negated one as much."""

    passages: str = "passages"
    """The input that holds the passages."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "passages"

    def __call__(self, answer: Answered) -> Judgement:
        there = {w for p in retrieved(answer, self.passages) for w in _WORD.findall(str(p.get("text", "")).casefold())}
        words = _WORD.findall(answer.text.casefold())
        if not words:
            return Judgement(None, "fraction", "the answer has no words")
        strange = list(dict.fromkeys(w for w in words if w not in there))
        share = sum(w in there for w in words) / len(words)
        told = f"; not there: {', '.join(map(quote, strange[:5]))}" if strange else ""
        return judged(share, "fraction", f"{share:.0%} of {len(words)} words stand in the passages{told}")


def retrieved(answer: Answered, name: str) -> Sequence[Mapping[str, Json]]:
    """The passages among the case's inputs; raises ScorerError where there are none of that form."""
    if name not in answer.case.inputs:
        raise ScorerError(
            f"case '{answer.case.id}' has no input '{name}' with passages; add 'retrieve' to the suite, or name the "
            "input: 'passages: NAME'"
        )
    passages = answer.case.inputs[name]
    if not isinstance(passages, list) or not all(
        isinstance(p, Mapping) and p.keys() & {"id", "document"} for p in passages
    ):
        raise ScorerError(
            f"the input '{name}' of case '{answer.case.id}' is no list of passages with an id or document"
        )
    return passages


def _relevant(answer: Answered) -> dict[str, float]:
    """Id → how relevant it is, above 0."""
    if not isinstance(answer.expected, Mapping):
        return dict.fromkeys(references(answer), 1.0)
    grades = {str(name): grade for name, grade in answer.expected.items()}
    if any(isinstance(g, bool) or not isinstance(g, (int, float)) or not 0 <= g <= MOST_VALUE for g in grades.values()):
        raise ScorerError(f"case '{answer.case.id}' has a grade that is no number from 0 to {MOST_VALUE:g}")
    relevant = {name: float(grade) for name, grade in grades.items() if grade > 0}
    if not relevant:
        raise ScorerError(f"case '{answer.case.id}' names nothing that is relevant")
    return relevant


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def _list(answer: Answered, scorer: _Ranked) -> str:
    """What was retrieved, for a reason."""
    ids = [str(p.get("id", p.get("document"))) for p in retrieved(answer, scorer.passages)[: scorer.k]]
    return f"retrieved {', '.join(ids) or 'nothing'}"
