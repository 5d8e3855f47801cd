"""Models as judges: a rubric of the library is asked about an answer, or about two of them in both orders.

What a rubric is for is seen by the inputs that it names: `first` and `second` make it pairwise, `expected`
reference-based. Outputs enter as values of these inputs: nothing in them is read as a template or as a role.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any, ClassVar

from workbench.engines.base import check_known
from workbench.errors import ScorerError, UseError, suggest
from workbench.records import Json, Judgement, Kind, Output, Request
from workbench.scorers.base import DESK, Answered, ByRubric, Desk, judged, not_judged, passed, quote, references
from workbench.scorers.verdict import Form, Point, answer_form, form_for, form_name, read_scale, read_verdict

OURS = {"output", "expected", "first", "second", "scale"}
"""Inputs that are filled here, before the case's own."""
PAIR = {"first", "second"}
SIDES = ("first", "second", "tie")
SHORT, LONG = 32, 512
"""max_tokens of a verdict alone, and with its reason."""


@dataclass(frozen=True)
class Judge(ByRubric):
    """A model judges by a rubric, a prompt of the library: a point of a scale, or which of two answers is better
    (1 won, 0.5 tie, 0 lost)."""

    rubric: str
    """The prompt's name, also NAME@LABEL. Its inputs may be the case's, `output`, `expected`, `scale`, or, for
    pairs, `first` and `second`."""
    model: str | None = None
    """The alias of the judge."""
    judges: list[str] | None = None
    """Several judges, in place of `model`: most votes, or of numbers the median."""
    scale: list[Any] | None = None
    """Numbers or labels, also as {value, means, example, says}; default: the rubric's own, of its input `scale`."""
    against: str | dict[str, Any] | None = None
    """For pairs: the variant, by label or {prompt, model, …}; default: the case's expected answer."""
    passes: list[str] | None = None
    """Labels that pass; with it, pass or fail."""
    at_least: float | None = None
    """Of a scale of numbers: with it, pass or fail."""
    explain: bool = False
    """The judge gives its reason before its verdict."""
    params: dict[str, Any] = field(default_factory=dict)
    """Sampling parameters of the judge; null leaves one out. Default: temperature 0."""
    desk: Desk | None = field(default=None, repr=False, compare=False, metadata=DESK)
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = "rubric"

    def __post_init__(self) -> None:
        if self.desk is None:
            raise UseError("asks a model, which is not possible here")
        if (self.model is None) == (self.judges is None) or self.judges == []:
            raise UseError("names its judge by 'model: ALIAS', or several by 'judges: [ALIAS, …]'")
        if len(set(self.models)) < len(self.models):
            raise UseError("names a judge twice, who would say the same again")
        self._check_scale()
        for alias in self.models:
            check_known(self.desk.engine(alias), self._params)
        if not self._rubric.defaults.keys() & (PAIR | {"output"}):
            raise UseError(f"rubric '{self.rubric}' shows no answer: it uses neither 'output' nor 'first' and 'second'")

    def _check_scale(self) -> None:
        labels = [point.label for point in self.points]
        numbers = not isinstance(self.points[0].value, str)
        if self.pairwise and not PAIR <= set(labels) <= set(SIDES):
            raise UseError(f"a pairwise rubric's scale is {', '.join(SIDES)}, or without the tie")
        if self.against is not None and not self.pairwise:
            raise UseError(f"'against' is for pairs; rubric '{self.rubric}' uses no 'first' and 'second'")
        for label in self.passes or ():
            if label not in labels:
                raise UseError(f"'passes' names '{label}', which the scale lacks{suggest(label, labels)}")
        if self.passes is not None and (self.pairwise or self.at_least is not None):
            raise UseError("'passes' is for a scale of labels, without 'at_least'")
        if self.at_least is not None and (self.pairwise or not numbers):
            raise UseError("'at_least' is for a scale of numbers; for labels give 'passes'")

    @property
    def pairwise(self) -> bool:
        return self._rubric.defaults.keys() >= PAIR

    @property
    def kind(self) -> Kind:
        """Of its scores."""
        if self.passes is not None or self.at_least is not None:
            return "pass"
        return "fraction" if self.pairwise else "label" if isinstance(self.points[0].value, str) else "number"

    @property
    def needs_expected(self) -> bool:
        return "expected" in self._rubric.required or (self.pairwise and self.against is None)

    @property
    def models(self) -> Sequence[str]:
        return self.judges or ([self.model] if self.model else [])

    @property
    def most_requests(self) -> int:
        return len(self.models) * (2 if self.pairwise else 1)

    @cached_property
    def points(self) -> tuple[Point, ...]:
        own = self.scale if self.scale is not None else self._rubric.defaults.get("scale")
        if own is None and not self.pairwise:
            raise UseError(f"the scale is missing: give 'scale: […]', or rubric '{self.rubric}' an input 'scale'")
        return read_scale(SIDES if own is None else own)

    @property
    def range(self) -> tuple[float, float] | None:
        """The ends of a scale of numbers; None for words, pairs and verdicts."""
        values = [point.value for point in self.points if isinstance(point.value, (int, float))]
        return (min(values), max(values)) if self.kind == "number" else None

    @cached_property
    def _forms(self) -> dict[str, Form]:
        assert self.desk is not None
        can = {alias: self.desk.engine(alias).capabilities for alias in self.models}
        return {alias: form_for(able, self.explain, self.points) for alias, able in can.items()}

    @property
    def longest(self) -> int:
        return LONG if self.explain or self.points[0].says else SHORT

    @property
    def content(self) -> Json:
        """For each judge what a licence is bound to, and how its verdict becomes a score."""
        assert self.desk is not None
        named: dict[str, Json] = {"rubric": self._rubric.name, "revision": self._rubric.revision}
        told = {"pairwise": self.pairwise, "passes": self.passes, "at_least": self.at_least}
        named |= {name: value for name, value in told.items() if value}
        return [
            {
                **named,
                "model": alias,
                "identity": self.desk.engine(alias).identity,
                "form": form_name(self._forms[alias], self.points, self.explain),
            }
            for alias in self.models
        ]

    def requests(self, answer: Answered) -> Sequence[Request]:
        """For each judge one request, or for pairs two: the answer first, then the other first."""
        shown: list[dict[str, Json]] = [{"output": answer.text}]
        if self.pairwise:
            other = self._other(answer)
            if other == answer.text:
                return []
            shown = [{"first": answer.text, "second": other}, {"first": other, "second": answer.text}]
        return [
            Request(
                "",
                alias,
                self._messages(answer, inputs),
                self._params,
                answer=answer_form(self._forms[alias], self.points, self.explain),
            )
            for alias in self.models
            for inputs in shown
        ]

    def judge(self, answer: Answered, outputs: Sequence[Output]) -> Judgement:
        if not outputs:
            return judged(0.5, "fraction", "the two answers are the same")
        verdicts = self.verdicts(outputs)
        if len(verdicts) == 1:
            value, reason = verdicts[0]
        else:
            value, reason = _together(self.models, verdicts, self.pairwise)
        if value is None:
            return not_judged(self.kind, reason)
        if self.kind != "pass":
            return judged(value, self.kind, reason)
        if isinstance(value, str):
            return passed(value in (self.passes or ()), reason)
        return passed(value >= (self.at_least or 0.0), f"{reason}, wanted {self.at_least:g}")

    def verdicts(self, outputs: Sequence[Output]) -> list[tuple[float | str | None, str]]:
        """Each judge's value and reason: a point of the scale, or for pairs 1, 0.5 or 0; None: unreadable."""
        each = len(outputs) // len(self.models)
        return [self._verdict(alias, outputs[i * each : (i + 1) * each]) for i, alias in enumerate(self.models)]

    def said(self, alias: str, output: Output) -> tuple[Point | None, str]:
        """The point that a judge's answer names, and its reason; an answer that was cut off names none."""
        if output.finish_reason == "length" and self._forms[alias] != "choices":
            return None, ""
        return read_verdict(self._forms[alias], output.text, self.points)

    def _verdict(self, alias: str, outputs: Sequence[Output]) -> tuple[float | str | None, str]:
        said = [self.said(alias, output) for output in outputs]
        for (point, _), output in zip(said, outputs, strict=True):
            if point is None:
                return None, f"{alias} names no point of the scale: {quote(output.text)}"
        (point, why), *rest = said
        assert point is not None
        if not rest:
            return point.value, f"{alias}: {point.label}" + (f", {why}" if why else "")
        turned = rest[0][0]
        assert turned is not None
        return _of_pair(alias, point.label, turned.label)

    def _messages(self, answer: Answered, shown: Mapping[str, Json]) -> Any:
        scale = [point.to_json() for point in self.points]
        inputs = {**answer.case.inputs, **shown, "scale": scale}
        if answer.expected is not None:
            inputs["expected"] = answer.expected
        return self._render(inputs, answer.case.id)

    def _other(self, answer: Answered) -> str:
        if self.against is not None:
            return answer.other(self.against).text
        found = references(answer)
        if len(found) > 1:
            raise ScorerError(f"case '{answer.case.id}' has several expected answers; a pair needs one")
        return found[0]


def _of_pair(alias: str, straight: str, turned: str) -> tuple[float, str]:
    """The answer's value, from what was said with the answer first, and with it second."""
    values = {"first": 1.0, "tie": 0.5, "second": 0.0}
    one, other = values[straight], 1.0 - values[turned]
    if one == other:
        return one, f"{alias}: {({1.0: 'better', 0.5: 'tie', 0.0: 'worse'})[one]} in both orders"
    return 0.5, f"{alias}: tie, for the orders disagree ({straight}, then {turned} when turned round)"


def _together(
    models: Sequence[str], verdicts: Sequence[tuple[float | str | None, str]], pairwise: bool
) -> tuple[float | str | None, str]:
    """What several judges say: most votes, of numbers the median; unscored where fewer than half can be read."""
    values = [value for value, _ in verdicts if value is not None]
    told = ", ".join(f"{alias} {_shown(value)}" for alias, (value, _) in zip(models, verdicts, strict=True))
    if 2 * len(values) <= len(models):
        return None, f"{len(values)} of {len(models)} judges can be read: {told}"
    numbers = [value for value in values if not isinstance(value, str)]
    if numbers and not pairwise:
        middle = float(median(numbers))
        return middle, f"median {middle:g} ({numbers.count(middle)} of {len(models)} agree): {told}"
    (first, votes), *rest = Counter(values).most_common(2)
    if rest and rest[0][1] == votes:
        return (0.5 if pairwise else None), f"no majority: {told}"
    return first, f"{votes} of {len(models)} judges: {_shown(first)} ({told})"


def _shown(value: float | str | None) -> str:
    return "unreadable" if value is None else value if isinstance(value, str) else f"{value:g}"
