"""`samples_TASK_TIME.jsonl` of lm-evaluation-harness (`--log_samples`) as a run.

A line a document: `doc_id`, `doc`, `target`, `arguments` (what the model was given), `filtered_resps` (its answers,
for tasks of choices the log-likelihood of each), and the metrics by name
(https://github.com/EleutherAI/lm-evaluation-harness, `lm_eval/evaluator.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from workbench.errors import DataError
from workbench.interop.foreign import ForeignRun, ForeignTrial, check_foreign, each_line
from workbench.records import Json, Kind, Message, Output

KNOWN = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash",
         "prompt_hash", "target_hash"}  # fmt: skip
_NAME = re.compile(r"samples_(.+)_\d{4}-\d\d-\d\dT[\d.\-]+\.jsonl")


def read_lm_eval(path: Path) -> ForeignRun:
    """The run of a file of samples; its model is the folder's name, as the harness writes it. Raises DataError."""
    named = _NAME.fullmatch(path.name)
    task = named[1] if named else path.stem.removeprefix("samples_")
    trials: list[ForeignTrial] = []
    each_line(path, lambda sample: trials.append(_trial(sample)), "is no sample of lm-evaluation-harness")
    if not trials:
        raise DataError("holds no samples", path)
    if len({t.case for t in trials}) < len(trials):
        raise DataError("holds a document twice, as with several filters; keep the lines of one filter", path)
    try:
        return check_foreign(ForeignRun("lm-eval", task, path.resolve().parent.name or "model", {}, trials))
    except (ValueError, RecursionError) as error:
        raise DataError(f"can't be kept: {error}"[:200], path) from error


def _trial(sample: Mapping[str, Json]) -> ForeignTrial:
    doc = sample["doc"]
    text = _first_text(sample["arguments"])
    return ForeignTrial(
        case=str(sample["doc_id"]),
        repeat=0,
        inputs=doc if isinstance(doc, dict) else {"doc": doc},
        expected=sample.get("target"),
        messages=(Message.of("raw", text),),
        output=Output("", text=_answer(sample)),
        scores=dict(_metrics(sample)),
    )


def _first_text(arguments: Json) -> str:
    """The context of the first request: a list of argument lists, or, in newer logs, named ones."""
    while isinstance(arguments, (list, dict)):
        arguments = [*arguments.values()] if isinstance(arguments, dict) else arguments
        arguments = arguments[0]
    return str(arguments)


def _answer(sample: Mapping[str, Json]) -> str:
    """The text that was generated; of choices the continuation that is most likely."""
    given = sample["filtered_resps"]
    if all(isinstance(r, str) for r in given):
        return str(given[0])
    scores = [float(r[0]) for r in given]
    best = max(range(len(scores)), key=scores.__getitem__)
    arguments = sample["arguments"]
    chosen = arguments[best] if isinstance(arguments, list) else list(arguments.values())[best]
    return str(chosen[1] if isinstance(chosen, list) else list(chosen.values())[1]).strip()


def _metrics(sample: Mapping[str, Json]) -> Iterator[tuple[str, tuple[float | str | None, Kind]]]:
    for name in sample.get("metrics") or [key for key in sample if key not in KNOWN]:
        value = sample.get(name)
        if isinstance(value, (bool, int, float)):
            number = float(value)
            yield name, (number, "pass" if number in (0.0, 1.0) else "number")
