"""The seam of scorers: settings are fields, one answered trial goes in, a judgement comes out.

A scorer is a frozen dataclass. Its fields are its settings in a suite; `version` is raised whenever its
judgement of the same answer changes, so that stored scores are made anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

from workbench.engines.base import Engine, check_known
from workbench.errors import ScorerError, UseError
from workbench.records import Case, Json, Judgement, Kind, Message, Output, Request, canonical

REASON_LIMIT = 200
"""The most characters of a reason: it is one line of a table."""

MOST_VALUE = 1e100
"""A number beyond is no score: its square, and so a spread, would be infinite."""

PROJECT = {"project": True}
"""Metadata of a field that is not a setting: `build` fills it with the project's folder. A scorer that reads
a file of the project has one, and a `content` property that tells what it read: it enters the score's key."""

DESK = {"desk": True}
"""Metadata of a field that is not a setting: `build` fills it with the `Desk` of a scorer that asks models."""


class Wanting(Exception):
    """A scorer lacks answers of models."""

    def __init__(self, requests: Sequence[Request]) -> None:
        super().__init__(f"{len(requests)} answers are lacking")
        self.requests = requests


def _none_to_ask(requests: Sequence[Request]) -> list[Output]:
    raise ScorerError("this scorer asks a model, which is not possible here")


def _no_other(variant: Json) -> Output:
    raise ScorerError("there is no other variant's answer here to compare with")


def _no_rivals() -> list[Output]:
    raise ScorerError("there are no other variants' answers here to compare with")


@dataclass(frozen=True, slots=True)
class Answered:
    """What a scorer looks at: an output that is an answer, never a failure."""

    output: Output
    case: Case
    expected: Json
    """The expected answer, rendered; None where there is none."""
    ask: Callable[[Sequence[Request]], list[Output]] = _none_to_ask
    """The answers to requests without id or seed; raises Wanting where one is lacking."""
    other: Callable[[Json], Output] = _no_other
    """What another variant, by label or {prompt, model, …}, answered to the same case at the same repeat;
    raises ScorerError where it gave no answer."""
    rivals: Callable[[], list[Output]] = _no_rivals
    """What all other variants answered to it, as far as they did."""

    @property
    def text(self) -> str:
        return self.output.text


class Scorer(Protocol):
    version: ClassVar[int]
    shorthand: ClassVar[str | None]
    """The setting that `{scorer: value}` in a suite stands for."""

    @property
    def needs_expected(self) -> bool:
        """A case without an expected answer is refused before the run."""

    def __call__(self, answer: Answered) -> Judgement:
        """Raises ScorerError where the case, or the project's own code, is wrong: not for a bad answer."""


@dataclass(frozen=True, slots=True)
class Rubric:
    """A prompt of the library that asks for a judgement."""

    name: str
    revision: str
    defaults: Mapping[str, Json]
    """Each input with its default."""
    required: frozenset[str]
    """Inputs that must be given."""
    options: Mapping[str, Json]
    """The prompt's own sampling parameters."""
    render: Callable[[Mapping[str, Json], str], tuple[Message, ...]]
    """Inputs and case id → messages; raises PromptError."""


class Desk(Protocol):
    """Where a scorer that asks models finds them, and the prompts to ask with, while it is built."""

    def engine(self, alias: str) -> Engine:
        """Raises UnknownName or ModelError."""

    def rubric(self, name: str) -> Rubric:
        """Raises UnknownName or PromptError."""


class Asking(ABC):
    """A scorer that asks models. It calls none: it gives requests, which the run's own dispatcher asks, keeps
    and counts like any trial's, and makes a judgement of their answers."""

    version: ClassVar[int]
    shorthand: ClassVar[str | None]
    against: Json = None
    """The variant whose answers it needs too, by label or {prompt, model, …}; None: none."""

    @property
    @abstractmethod
    def needs_expected(self) -> bool: ...

    @property
    @abstractmethod
    def models(self) -> Sequence[str]:
        """The aliases that it asks."""

    @property
    @abstractmethod
    def most_requests(self) -> int:
        """How many requests one answer takes at most."""

    @property
    @abstractmethod
    def content(self) -> Json:
        """What enters the score's key beside the settings: the models' identities, the prompt's revision."""

    @abstractmethod
    def requests(self, answer: Answered) -> Sequence[Request]:
        """What to ask about an answer, without id and seed; raises ScorerError."""

    @abstractmethod
    def judge(self, answer: Answered, outputs: Sequence[Output]) -> Judgement:
        """The judgement, from the answers to `requests`, in their order; none of them is a failure."""

    def __call__(self, answer: Answered) -> Judgement:
        """Raises Wanting, and ScorerError also where a model gave no answer: it is asked again next time."""
        requests = self.requests(answer)
        outputs = answer.ask(requests) if requests else []
        for request, output in zip(requests, outputs, strict=True):
            if output.failure:
                raise ScorerError(f"'{request.model}' gave no answer: {output.failure.message}")
        return self.judge(answer, outputs)


class ByRubric(Asking):
    """A scorer that asks by a prompt of the library."""

    rubric: str
    params: dict[str, Json]
    desk: Desk | None

    @property
    @abstractmethod
    def longest(self) -> int:
        """max_tokens of an answer, where neither rubric nor `params` say."""

    @cached_property
    def _rubric(self) -> Rubric:
        assert self.desk is not None
        return self.desk.rubric(self.rubric)

    @cached_property
    def _params(self) -> dict[str, Json]:
        merged = {"temperature": 0, "max_tokens": self.longest, **self._rubric.options, **self.params}
        return {name: value for name, value in merged.items() if value is not None}

    def _render(self, inputs: Mapping[str, Json], case: str) -> tuple[Message, ...]:
        """The rubric with these inputs; raises ScorerError where it can't be rendered."""
        try:
            return self._rubric.render(inputs, case)
        except UseError as error:
            raise ScorerError(f"rubric '{self.rubric}': {error}") from error


class ByOneModel(ByRubric):
    """A scorer that asks one model by a rubric which shows the answer as `output`."""

    model: str
    shows: ClassVar[tuple[str, str]] = ("answer", "output")
    """What the rubric has to show, and the input that holds it."""

    @property
    @abstractmethod
    def form(self) -> str:
        """How the model answers, in words: a licence holds for just one form."""

    def _check(self) -> None:
        """Raises UseError where there is no model to ask, for its parameters, or for a rubric that shows nothing."""
        if self.desk is None:
            raise UseError("asks a model, which is not possible here")
        check_known(self.desk.engine(self.model), self._params)
        what, name = self.shows
        if name not in self._rubric.defaults:
            raise UseError(f"rubric '{self.rubric}' shows no {what}: it does not use '{name}'")

    @property
    def needs_expected(self) -> bool:
        return False

    @property
    def models(self) -> Sequence[str]:
        return [self.model]

    @property
    def most_requests(self) -> int:
        return 1

    @property
    def content(self) -> Json:
        assert self.desk is not None
        named = {"rubric": self._rubric.name, "revision": self._rubric.revision, "model": self.model}
        return [{**named, "identity": self.desk.engine(self.model).identity, "form": self.form}]

    def requests(self, answer: Answered) -> Sequence[Request]:
        shown = self._render({**answer.case.inputs, "output": answer.text}, answer.case.id)
        return [Request("", self.model, shown, self._params)]


def passed(ok: bool, reason: str) -> Judgement:
    return judged(float(ok), "pass", reason)


def judged(value: float | str | None, kind: Kind, reason: str, failed: bool = False) -> Judgement:
    """A judgement whose reason is one printable line of at most `REASON_LIMIT` characters."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in reason[: REASON_LIMIT + 1])
    return Judgement(value, kind, line if len(line) <= REASON_LIMIT else line[: REASON_LIMIT - 1] + "…", failed)


def not_judged(kind: Kind, reason: str) -> Judgement:
    """What could not be judged: its score lacks, which no gate passes over."""
    return judged(None, kind, f"unscored: {reason}", failed=True)


def countable(judgement: Judgement) -> Judgement:
    """The judgement, whoever wrote the scorer; raises ScorerError for a number with which nothing can be counted."""
    if isinstance(judgement.value, (int, float)) and not abs(judgement.value) <= MOST_VALUE:
        raise ScorerError(f"its value is beyond ±{MOST_VALUE:g}, or no number")
    return judgement


def quote(text: str, limit: int = 60) -> str:
    """Text for a reason: in quotes, control characters escaped, a long one's middle left out."""
    if len(text) <= limit:
        return repr(text)
    half = limit // 2
    return repr(f"{text[:half]} … {text[-half:]}")


def references(answer: Answered) -> list[str]:
    """The expected answers as texts: a list holds several of which each is right, all else is one.

    Text stays as it is; other values are their JSON (`true`, `42`, `{"a":1}`).
    """
    expected = answer.expected if isinstance(answer.expected, list) else [answer.expected]
    if answer.expected is None or not expected:
        raise ScorerError(f"case '{answer.case.id}' has no expected answer; give it one or drop the scorer")
    return [value if isinstance(value, str) else canonical(value) for value in expected]
