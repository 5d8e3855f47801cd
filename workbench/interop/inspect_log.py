"""Logs of Inspect (https://inspect.aisi.org.uk/eval-logs.html): a `.eval` zip or JSON, read as a run.

In a zip `header.json` says what was run and each `samples/*.json` is one sample. Nothing is unpacked to disk, and how
much is read has a bound.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from workbench.errors import DataError
from workbench.interop.foreign import ForeignRun, ForeignTrial, check_foreign
from workbench.records import Failure, Json, Kind, Message, Output

MAX_BYTES = 2 * 2**30
"""Of all that is read of one log, unpacked."""
MAX_SAMPLE = 64 * 2**20
"""Of one file in a zip."""
GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""What Inspect's `value_to_float` makes of its grades: correct, incorrect, partial, no answer."""
PARAMS = ("temperature", "max_tokens", "top_p", "seed", "frequency_penalty", "presence_penalty")


def read_inspect(path: Path) -> ForeignRun:
    """The run of a log; raises DataError where it is none."""
    try:
        head, trials = _zip(path) if zipfile.is_zipfile(path) else _plain(path)
        about = head["eval"]
        config = about.get("model_generate_config") or {}
        params = {name: config[name] for name in PARAMS if config.get(name) is not None}
        found = check_foreign(ForeignRun("inspect", str(about["task"]), str(about["model"]), params, trials))
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(f"can't be read: {error}", path) from error
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise DataError(f"is no log of Inspect: {type(error).__name__} {error}"[:200], path) from error
    if not trials:
        raise DataError("holds no samples; log them with --log-samples", path)
    return found


def _plain(path: Path) -> tuple[Json, list[ForeignTrial]]:
    if path.stat().st_size > MAX_BYTES:
        raise DataError("is larger than 2 GiB", path)
    data = json.loads(path.read_bytes())
    return data, [_trial(sample) for sample in data.get("samples") or []]


def _zip(path: Path) -> tuple[Json, list[ForeignTrial]]:
    with zipfile.ZipFile(path) as archive:
        names = archive.infolist()
        if sum(info.file_size for info in names) > MAX_BYTES:
            raise DataError("unpacks to more than 2 GiB", path)
        samples = [i for i in names if i.filename.startswith("samples/") and i.filename.endswith(".json")]
        header = archive.getinfo("header.json")
        if large := [i.filename for i in (header, *samples) if i.file_size > MAX_SAMPLE]:
            raise DataError(f"'{large[0]}' in it unpacks to more than {MAX_SAMPLE >> 20} MiB", path)
        return json.loads(archive.read(header)), [_trial(json.loads(archive.read(info))) for info in samples]


def _trial(sample: Mapping[str, Json]) -> ForeignTrial:
    given = sample["input"]
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
    inputs = {"input": given, **(sample.get("metadata") or {})}
    return ForeignTrial(
        case=str(sample["id"]),
        repeat=int(sample.get("epoch") or 1) - 1,
        inputs=inputs,
        expected=sample.get("target"),
        messages=tuple(Message.of(str(m["role"]), _text(m["content"])) for m in messages),
        output=_output(sample),
        scores=dict(_scores(sample.get("scores") or {})),
    )


def _output(sample: Mapping[str, Json]) -> Output:
    if error := sample.get("error"):
        return Output("", finish_reason="failed", failure=Failure("server", str(error.get("message"))[:500]))
    output = sample.get("output") or {}
    choice = (output.get("choices") or [{}])[0]
    usage = output.get("usage") or {}
    reason = {"max_tokens": "length", "stop": "stop", "tool_calls": "tool_calls", "content_filter": "content_filter"}
    return Output(
        "",
        text=_text((choice.get("message") or {}).get("content") or output.get("completion") or ""),
        finish_reason=reason.get(choice.get("stop_reason"), "stop"),
        prompt_tokens=_count(usage.get("input_tokens")),
        output_tokens=_count(usage.get("output_tokens")),
        seconds=output.get("time") if isinstance(output.get("time"), float) else None,
    )


def _count(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(content: Json) -> str:
    """A message's text; of parts, those that are text."""
    if isinstance(content, str):
        return content
    return "".join(str(part["text"]) for part in content if part.get("type") == "text")


def _scores(given: Mapping[str, Json]) -> Iterator[tuple[str, tuple[float | str | None, Kind]]]:
    for name, score in given.items():
        value = score["value"]
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", _value(item)) for key, item in value.items())
        else:
            yield name, _value(value)


def _value(value: Json) -> tuple[float | str | None, Kind]:
    if isinstance(value, bool):
        return float(value), "pass"
    if isinstance(value, float) and math.isnan(value):  # so Inspect writes what could not be scored
        return None, "number"
    if isinstance(value, (int, float)):
        return float(value), "fraction" if 0 <= value <= 1 else "number"
    if isinstance(value, str) and value in GRADES:
        return GRADES[value], "fraction"
    return (value, "label") if isinstance(value, str) else (None, "label")
