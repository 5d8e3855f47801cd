"""Results of other tools as a run of the store: shown, compared and exported like ours, never resumed or asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from workbench.errors import DataError, UnknownName
from workbench.records import (
    EMPTY,
    Case,
    Json,
    Kind,
    Message,
    Output,
    Request,
    Score,
    ScorerSpec,
    Suite,
    Trial,
    Variant,
    canonical,
    content_id,
)  # fmt: skip
from workbench.store import recording, runs
from workbench.store.database import Database
from workbench.store.summaries import keep_summary

MAX_NUMBER = 1e100
"""Beyond, nothing can be counted with it: a spread would be infinite."""
MAX_LINE = 16 * 2**20


@dataclass(frozen=True, slots=True)
class ForeignTrial:
    """One sample of the other tool."""

    case: str
    repeat: int
    inputs: Mapping[str, Json]
    expected: Json
    messages: tuple[Message, ...]
    output: Output
    """Its request id is filled in here."""
    scores: Mapping[str, tuple[float | str | None, Kind]] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True, slots=True)
class ForeignRun:
    """One file of results."""

    tool: str
    task: str
    model: str
    params: Mapping[str, Json]
    trials: Sequence[ForeignTrial]
    notes: Sequence[str] = ()
    """What a reader has to know beside them."""


def each_line(path: Path, take: Callable[[Json], None], wrong: str) -> None:
    """Hands over the JSON of each line of a file. Raises DataError with the line where there is none, or where `take`
    can't make sense of it: `wrong` says what the line is not."""
    line = 0
    try:
        with path.open("rb") as file:
            for line, text in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):  # noqa: B007  for the error
                if len(text) > MAX_LINE:
                    raise ValueError("a line of over 16 MiB")
                if text.strip():
                    take(json.loads(text))
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}", path) from error
    except (KeyError, TypeError, AttributeError, IndexError, ArithmeticError, ValueError, RecursionError) as error:
        raise DataError(f"{wrong}: {type(error).__name__} {error}"[:200], path, line) from error


def check_foreign(foreign: ForeignRun) -> ForeignRun:
    """The run, as the store can hold it; raises ValueError for a sample given twice, and for what is no text of Unicode
    or no number of JSON's."""
    seen: set[tuple[str, int]] = set()
    for trial in foreign.trials:
        if (trial.case, trial.repeat) in seen:
            raise ValueError(f"sample '{trial.case}' stands there twice")
        seen.add((trial.case, trial.repeat))
        output = trial.output
        for count in (trial.repeat, output.prompt_tokens or 0, output.output_tokens or 0):
            if not 0 <= count < 2**31:
                raise ValueError(f"{count:.3g} is no count")
        numbers = [output.seconds or 0.0, *(value for value, _ in trial.scores.values() if isinstance(value, float))]
        if not all(abs(number) <= MAX_NUMBER for number in numbers):
            raise ValueError(f"a number of sample '{trial.case}' is none, or beyond {MAX_NUMBER:g}")
    told = [
        [t.case, dict(t.inputs), t.expected, [m.to_json() for m in t.messages], t.output.text, dict(t.scores)]
        for t in foreign.trials
    ]
    canonical([foreign.task, foreign.model, dict(foreign.params), told]).encode()
    return foreign


def keep_foreign(database: Database, foreign: ForeignRun) -> tuple[str, bool]:
    """Stores the run, once: its id comes from its content. Gives the id, and whether it is new."""
    told = [[t.case, t.repeat, t.output.text, {n: s[0] for n, s in t.scores.items()}] for t in foreign.trials]
    run = f"{foreign.tool}-{content_id('fr1', [foreign.task, foreign.model, dict(foreign.params), told])[4:16]}"
    revision = content_id("pr1", [foreign.tool, foreign.task])
    variant = Variant(foreign.task, revision, foreign.model, foreign.params, label=foreign.model)
    cases = {t.case: Case(t.case, t.inputs, t.expected) for t in foreign.trials}
    names = list(dict.fromkeys(name for t in foreign.trials for name in t.scores))
    specs = tuple(ScorerSpec(name, name) for name in names)
    suite = Suite(foreign.task, "evaluate", (variant,), tuple(cases.values()), specs, {}, {})
    rows = [(t, Trial(variant, cases[t.case], t.repeat), _request(foreign, t)) for t in foreign.trials]
    with database.write() as connection:
        try:
            if runs.get_run(connection, run).id == run:
                return run, False
        except UnknownName:
            pass
        plan = recording.Plan(content_id("pl1", [run]), [(trial, request.id) for _, trial, request in rows])
        header = {
            "seed": 0, "scorers": names, "reference": variant.id, "margin": 0.05, "fresh": False, "suite": "",
            "path": None, "imported": foreign.tool, "cases": len(cases), "repeats": 1, "models": {},
        }  # fmt: skip
        recording.start_run(connection, run, suite, plan, header)
        recording.keep(connection, run, [(request, _identity(foreign), _output(t, request)) for t, _, request in rows])
        recording.save_scores(connection, run, [s for t, trial, _ in rows for s in _scores(foreign.tool, t, trial)])
        recording.end_run(connection, run, "complete", {})
        keep_summary(connection, run)
    return run, True


def _identity(foreign: ForeignRun) -> str:
    return f"{foreign.tool}:{foreign.model}"


def _request(foreign: ForeignRun, sample: ForeignTrial) -> Request:
    messages = [m.to_json() for m in sample.messages]
    how: list[Json] = [dict(foreign.params), {}, 0, []]
    # the other tool's model is not one of ours: its answers must never stand for an answer that we would ask for
    content = [messages, _identity(foreign), how]
    number = content_id("rq1", [content, sample.repeat, sample.case])
    return Request(number, foreign.model, sample.messages, foreign.params, None, sample.repeat)


def _output(sample: ForeignTrial, request: Request) -> Output:
    return replace(sample.output, request_id=request.id)


def _scores(tool: str, sample: ForeignTrial, trial: Trial) -> list[Score]:
    return [
        Score(trial.id, name, content_id("sk1", [tool, name]), value, kind, f"as {tool} scored it")
        for name, (value, kind) in sample.scores.items()
    ]
