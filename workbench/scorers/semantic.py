"""Nearness of meaning: the cosine of two texts' embeddings, which a model of the project makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from workbench.errors import ScorerError, UseError
from workbench.records import Json, Judgement, Message, Output, Request
from workbench.scorers.base import DESK, Answered, Asking, Desk, judged, passed, quote, references

EMBEDDING = {"embedding": True}


@dataclass(frozen=True)
class Semantic(Asking):
    """The answer means the same as the expected one: cosine of their embeddings, from −1 to 1. Of a list of expected
    answers the nearest counts. An empty answer has no embedding, and is told to be 0 like each of them."""

    model: str
    """The alias of a model that embeds: a local one with `pooling`, or a hosted one with `api: embeddings`."""
    at_least: float | None = None
    """With it, pass or fail."""
    desk: Desk | None = field(default=None, repr=False, compare=False, metadata=DESK)
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = "model"
    needs_expected: ClassVar[bool] = True
    most_requests: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.at_least is not None and not -1 <= self.at_least <= 1:
            raise UseError(f"at_least {self.at_least:g} is no cosine; it lies between -1 and 1")
        if self.desk is None:
            raise UseError("asks a model for embeddings, which is not possible here")
        if not self.desk.engine(self.model).capabilities.embeddings:
            raise UseError(
                f"model '{self.model}' gives no embeddings; name a local one with 'pooling: mean', or a hosted one "
                "with 'api: embeddings'"
            )

    @property
    def models(self) -> Sequence[str]:
        return (self.model,)

    @property
    def content(self) -> Json:
        return {"model": self.model, "identity": self.desk.engine(self.model).identity} if self.desk else None

    def requests(self, answer: Answered) -> Sequence[Request]:
        wanted = references(answer)
        if not all(text.strip() for text in wanted):
            raise ScorerError(f"case '{answer.case.id}' expects an empty answer, which has no embedding; use exact")
        texts = [answer.text, *wanted] if answer.text.strip() else []
        return [Request("", self.model, (Message.of("user", text),), answer=EMBEDDING) for text in texts]

    def judge(self, answer: Answered, outputs: Sequence[Output]) -> Judgement:
        if not outputs:
            return self._told(0.0, "the answer is empty")
        own, *others = (np.asarray(output.extra["embedding"], dtype=float) for output in outputs)
        cosines = [
            float(np.clip(own @ other / (np.linalg.norm(own) * np.linalg.norm(other)), -1, 1)) for other in others
        ]
        best = max(range(len(cosines)), key=cosines.__getitem__)
        return self._told(cosines[best], f"cosine {cosines[best]:.3f} with {quote(references(answer)[best])}")

    def _told(self, cosine: float, reason: str) -> Judgement:
        if self.at_least is None:
            return judged(cosine, "number", reason)
        return passed(cosine >= self.at_least, f"{reason}, wanted {self.at_least:g}")
