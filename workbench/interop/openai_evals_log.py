"""Records of OpenAI's evals, the .jsonl that `oaieval` writes, read as a run.

A line each: the run's `spec` first; events, each with a `sample_id`, a `type` and its `data`; and a `final_report`,
which may stand before the last events, since these are written later (https://github.com/openai/evals,
`evals/record.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from workbench.errors import DataError
from workbench.interop.foreign import ForeignRun, ForeignTrial, check_foreign, each_line
from workbench.records import EMPTY, Failure, Json, Kind, Message, Output

MATCH = "match"
"""The score that events of this type make."""


@dataclass(slots=True)
class _Sample:
    """The events of one sample."""

    calls: list[Mapping[str, Json]] = field(default_factory=list)
    """Of models (`sampling`)."""
    matches: list[Mapping[str, Json]] = field(default_factory=list)
    metrics: dict[str, list[Json]] = field(default_factory=dict)
    fields: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """The row of the data set, where it was recorded."""
    error: str = ""

    def answer(self) -> Mapping[str, Json]:
        """The call whose text was matched, else the first: later ones are a grader's, or further turns."""
        matched = self.matches[0].get("sampled") if self.matches else None
        fitting = [call for call in self.calls if matched is not None and _sampled(call) == matched]
        return (fitting or self.calls or [{"sampled": matched}])[0]

    def values(self) -> dict[str, float | str | None]:
        """Score → value; of several in one sample the mean, or the last text."""
        right = [float(match["correct"]) for match in self.matches]
        found = {name: _reduced(values) for name, values in self.metrics.items()}
        return found | ({MATCH: fmean(right)} if right else {})


@dataclass(slots=True)
class _Log:
    spec: Mapping[str, Json] | None = None
    samples: dict[str, _Sample] = field(default_factory=dict)
    report: Mapping[str, Json] | None = None

    def take(self, line: Json) -> None:
        """Raises ValueError and the like for a line that can't be."""
        if "spec" in line:
            if self.spec is not None:
                raise ValueError("a second spec: several runs in one file")
            self.spec = line["spec"]
        elif self.spec is None:
            raise ValueError("the first line has no spec")
        elif "final_report" in line:
            self.report = line["final_report"]
        else:
            self._event(self.samples.setdefault(str(line["sample_id"]), _Sample()), line["type"], line["data"])

    def _event(self, sample: _Sample, kind: str, data: Json) -> None:
        if kind == "sampling":
            sample.calls.append(data)
        elif kind == "match":
            sample.matches.append(data)
        elif kind == "raw_sample" and isinstance(data, dict):
            sample.fields = data
        elif kind == "error":
            sample.error = f"{data['type']}: {data['message']}"
        elif kind == "metrics":
            for name, value in data.items():
                sample.metrics.setdefault(name, []).append(value)


def read_openai_log(path: Path) -> ForeignRun:
    """The run of a record; raises DataError where it is none."""
    log = _Log()
    each_line(path, log.take, "is no record of OpenAI's evals")
    if not log.spec or not log.samples:
        raise DataError(f"holds no {'events of samples' if log.spec else 'run'}", path)
    try:
        task, models = str(log.spec["eval_name"]), log.spec.get("completion_fns") or [log.spec["model_name"]]
        names = sorted(log.samples, key=_natural)
        values = {name: log.samples[name].values() for name in names}
        scores = dict.fromkeys(score for found in values.values() for score in found)
        kinds = {score: _kind([found.get(score) for found in values.values()]) for score in scores}
        trials = [_trial(name, log.samples[name], values[name], kinds) for name in names]
        notes = tuple(_notes(log, values))
        return check_foreign(ForeignRun("openai-evals", task, ",".join(map(str, models)), {}, trials, notes))
    except (KeyError, TypeError, AttributeError, ArithmeticError, ValueError, RecursionError) as error:
        raise DataError(f"is no record of OpenAI's evals: {type(error).__name__} {error}"[:200], path) from error


def _trial(
    name: str, sample: _Sample, values: Mapping[str, float | str | None], kinds: Mapping[str, Kind]
) -> ForeignTrial:
    call = sample.answer()
    prompt = call.get("prompt")
    scores = {score: (str(v) if kinds[score] == "label" and v is not None else v) for score, v in values.items()}
    return ForeignTrial(
        case=name,
        repeat=0,
        inputs=sample.fields or ({"input": prompt} if prompt is not None else {}),
        expected=sample.matches[0].get("expected") if sample.matches else None,
        messages=tuple(_messages(prompt)),
        output=_output(sample, call),
        scores={score: (value, kinds[score]) for score, value in scores.items()},
    )


def _messages(prompt: Json) -> Iterator[Message]:
    """A chat's messages, or the text that was completed."""
    if isinstance(prompt, list) and all(isinstance(message, dict) for message in prompt):
        for message in prompt:
            content = message.get("content") or ""
            parts = [{"text": content}] if isinstance(content, str) else content
            yield Message.of(str(message["role"]), "".join(str(part.get("text", "")) for part in parts))
    elif prompt is not None:
        yield Message.of("raw", prompt if isinstance(prompt, str) else "".join(map(str, prompt)))


def _output(sample: _Sample, call: Mapping[str, Json]) -> Output:
    text, usage = _sampled(call), call.get("usage") or {}
    if text is None and sample.error:
        return Output("", finish_reason="failed", failure=Failure("server", sample.error[:500]))
    prompt_tokens, output_tokens = (
        next((usage[key] for key in keys if isinstance(usage.get(key), int)), None)
        for keys in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    )
    return Output("", text=text or "", prompt_tokens=prompt_tokens, output_tokens=output_tokens)


def _sampled(call: Mapping[str, Json]) -> str | None:
    """A call's text: the first, where it made several."""
    given = call.get("sampled")
    given = (given or [""])[0] if isinstance(given, list) else given
    return None if given is None else str(given)


def _reduced(values: Sequence[Json]) -> float | str | None:
    numbers = [float(v) for v in values if isinstance(v, (bool, int, float)) and math.isfinite(v)]
    if len(numbers) == len(values):
        return fmean(numbers)
    return values[-1] if isinstance(values[-1], str) else None


def _kind(values: Sequence[float | str | None]) -> Kind:
    known = [value for value in values if value is not None]
    numbers = [value for value in known if isinstance(value, float)]
    if len(numbers) < len(known):
        return "label"
    if all(value in (0.0, 1.0) for value in numbers):
        return "pass"
    return "fraction" if all(0 <= value <= 1 for value in numbers) else "number"


def _natural(name: str) -> tuple[str, int, str]:
    """Samples are numbered at the end of their names."""
    number = re.search(r"\d+$", name)
    return (name[: number.start()], int(number[0]), "") if number else (name, -1, name)


def _notes(log: _Log, values: Mapping[str, Mapping[str, float | str | None]]) -> Iterator[str]:
    """What a reader has to know beside the trials."""
    if further := sum(len(sample.calls) > 1 for sample in log.samples.values()):
        kept = "the one whose text was matched is kept, else the first"
        yield f"{further} of {len(values)} samples called models more than once: {kept}"
    if log.report is None:
        yield "there is no final report: the run did not end"
        return
    right = [float(match["correct"]) for sample in log.samples.values() for match in sample.matches]
    told = log.report.get("accuracy")
    if right and isinstance(told, (int, float)) and not math.isclose(told, fmean(right), abs_tol=1e-9):
        yield f"the final report says accuracy {told:g}, its events make {fmean(right):g}"
