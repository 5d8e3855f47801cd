"""A run's variant as a log of Inspect in JSON (https://inspect.aisi.org.uk/eval-logs.html), form 2.

What `inspect_log` reads back is the same: cases, messages, answers, failures, scores. A log has one model, so that a
run with several variants is as many logs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from workbench.records import Json, Output, Run, Score, content_id
from workbench.store.runs import TrialRow, VariantRow

STATUS = {"complete": "success", "stopped": "cancelled", "running": "started", "waiting": "started"}
REASONS = {"length": "max_tokens", "stop": "stop", "tool_calls": "tool_calls", "content_filter": "content_filter"}
PARAMS = ("temperature", "max_tokens", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty")


def inspect_log(run: Run, variant: VariantRow, rows: Iterable[TrialRow]) -> Iterator[str]:
    """The log in pieces; `rows` are the variant's trials, as a stream."""
    head = json.dumps(_head(run, variant), ensure_ascii=False, indent=1)
    yield head.removesuffix("\n}") + ',\n "samples": ['
    between = "\n  "
    for row in rows:
        yield between + json.dumps(_sample(variant, row), ensure_ascii=False)
        between = ",\n  "
    yield "\n ]\n}\n"


def _head(run: Run, variant: VariantRow) -> dict[str, Json]:
    params = variant.settings["params"]
    return {
        "version": 2,
        "status": STATUS.get(run.status, "error"),
        "eval": {
            "created": run.started,
            "eval_id": content_id("in1", [run.id, variant.id])[4:26],
            "run_id": run.id,
            "task": run.suite,
            "task_id": content_id("in1", [run.suite])[4:26],
            "task_version": 0,
            "dataset": {"name": run.suite},
            "model": variant.model,
            "model_generate_config": {name: params[name] for name in PARAMS if name in params},
            "config": {},
            "packages": {},
            "metadata": {"variant": variant.label, "prompt": variant.prompt, "revision": variant.revision},
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "stats": {"started_at": run.started, "completed_at": run.ended or "", "model_usage": {}},
    }


def _sample(variant: VariantRow, row: TrialRow) -> dict[str, Json]:
    """One trial. An expected answer that is neither text nor a list of texts is its JSON."""
    expected = row.expected
    texts = isinstance(expected, list) and all(isinstance(item, str) for item in expected)
    target = expected if isinstance(expected, str) or texts else "" if expected is None else json.dumps(expected)
    messages = [{**m, "role": "user" if m["role"] == "raw" else m["role"]} for m in row.messages]
    sample: dict[str, Json] = {
        "id": row.case_id,
        "epoch": row.repeat + 1,
        "input": messages,
        "target": target,
        "messages": messages,
        "output": {"model": variant.model, "choices": []},
        "scores": dict(_scores(row.scores)),
        "metadata": dict(row.inputs),
    }
    if row.output is not None and row.output.failure is not None:
        told = f"{row.output.failure.kind}: {row.output.failure.message}"
        sample["error"] = {"message": told, "traceback": "", "traceback_ansi": ""}
    elif row.output is not None:
        sample["output"] = _output(variant.model, row.output)
        sample["messages"] = [*messages, sample["output"]["choices"][0]["message"]]
    return sample


def _output(model: str, output: Output) -> dict[str, Json]:
    message: dict[str, Json] = {"role": "assistant", "content": output.text, "source": "generate", "model": model}
    if output.tool_calls:
        message["tool_calls"] = [_call(call, i) for i, call in enumerate(output.tool_calls)]
    found: dict[str, Json] = {
        "model": model,
        "choices": [{"message": message, "stop_reason": REASONS.get(output.finish_reason, "unknown")}],
        "completion": output.text,
    }
    if output.prompt_tokens is not None or output.output_tokens is not None:
        asked, answered = output.prompt_tokens or 0, output.output_tokens or 0
        found["usage"] = {"input_tokens": asked, "output_tokens": answered, "total_tokens": asked + answered}
    return found if output.seconds is None else {**found, "time": output.seconds}


def _call(call: Json, number: int) -> Json:
    """A tool call in Inspect's form; arguments that are no JSON object are told as they came."""
    inner = call.get("function", call)
    arguments = inner.get("arguments")
    try:
        read = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        read = None
    named = {"id": str(call.get("id") or f"call_{number}"), "function": str(inner.get("name")), "type": "function"}
    return {**named, "arguments": read if isinstance(read, dict) else {"arguments": arguments}}


def _scores(scores: Sequence[Score]) -> Iterator[tuple[str, Json]]:
    """What is unscored has no entry."""
    for score in scores:
        if score.value is not None:
            yield score.scorer, {"value": score.value, "explanation": score.reason}
