"""Examples as files that trainers read, and the file beside them that tells which cases they were made of.

`chat` is OpenAI's form of supervised fine-tuning, which most trainers read, `completion` and `preferences` are the
conversational forms of TRL (https://huggingface.co/docs/trl/dataset_formats), `openai-preferences` is OpenAI's
(https://developers.openai.com/api/docs/guides/direct-preference-optimization).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from workbench.define.files import replace_text
from workbench.define.held_out import ENDING, TrainingFile
from workbench.errors import UseError
from workbench.records import Json
from workbench.training.pick import Example, Picked


def _chat(example: Example) -> Json:
    return {"messages": [*_messages(example), _message(example.answer)], **_tools(example)}


def _completion(example: Example) -> Json:
    return {**_prompt(example, "completion", example.answer), **_tools(example)}


def _preferences(example: Example) -> Json:
    chosen = _prompt(example, "chosen", example.answer)
    return {**chosen, **_prompt(example, "rejected", example.worse), **_tools(example)}


def _openai_preferences(example: Example) -> Json:
    asked = {"messages": _messages(example), **_tools(example)}
    sides = {"preferred_output": [_message(example.answer)], "non_preferred_output": [_message(example.worse)]}
    return {"input": asked, **sides}


FORMS: Mapping[str, Callable[[Example], Json]] = {
    "chat": _chat,
    "completion": _completion,
    "preferences": _preferences,
    "openai-preferences": _openai_preferences,
}
FEW = 50
"""Fewer examples are told to be few."""
PAIRED = ("preferences", "openai-preferences")
"""The forms with a worse answer beside each."""


def write_examples(picked: Picked, form: str, path: Path, made_from: Mapping[str, Json]) -> Path:
    """Writes the examples, JSON Lines, and beside them which cases they were made of: a `TrainingFile`, whose path is
    returned. Raises UseError where there is no example, for what the form can't hold, where another file is in the way,
    and where one can't be written."""
    if not picked.examples:
        raise UseError(f"there is no example to write: {told(picked)}")
    text = "".join(json.dumps(FORMS[form](example), ensure_ascii=False) + "\n" for example in picked.examples)
    about = TrainingFile(
        training=1,
        examples=path.name,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        made_from={**made_from, "form": form},
        inputs=list(picked.inputs),
        trained=picked.trained,
        passed_over=picked.passed_over,
        held_out=picked.held_out,
    )
    beside = path.with_name(path.stem + ENDING)
    if path.exists() and not beside.exists():
        raise UseError(f"{path} exists and was not written by this; choose another file")
    replace_text(path, text)
    replace_text(beside, json.dumps(about.model_dump(), indent=1, ensure_ascii=False) + "\n")
    return beside


def told(picked: Picked) -> str:
    """What became of the run's cases, in a line."""
    why = "".join(f"; {_count(number, 'case')} had {reason}" for reason, number in picked.left.most_common())
    made = f"{_count(len(picked.examples), 'example')} of {_count(len(picked.trained), 'case')}"
    return f"{made}; {_count(picked.held_out, 'case')} held out{why}"


def doubts(picked: Picked) -> list[str]:
    """What to think of before one trains on them."""
    few = f"so few examples ({len(picked.examples)}) seldom change what a model does"
    none = "no case is held out: what the tuned model can do on others can't be told from this run"
    return [line for line, so in ((few, len(picked.examples) < FEW), (none, not picked.held_out)) if so]


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _prompt(example: Example, name: str, answer: Json) -> dict[str, Json]:
    """`{"prompt", name}`: as texts for a prompt that is raw text, else as messages."""
    if any(message["role"] == "raw" for message in example.messages):
        return {"prompt": "".join(_text(m, example.case) for m in example.messages), name: answer["content"]}
    return {"prompt": _messages(example), name: [_message(answer)]}


def _messages(example: Example) -> list[Json]:
    if any(message["role"] == "raw" for message in example.messages):
        raise UseError("the prompt is raw text, which has no messages; use --to completion or preferences")
    return [{"role": m["role"], "content": _text(m, example.case)} for m in example.messages]


def _text(message: Json, case: str) -> str:
    if not isinstance(message["content"], str):
        raise UseError(f"case '{case}' has an image, which these forms can't hold; leave such cases out of the run")
    return str(message["content"])


def _message(answer: Json) -> Json:
    return {"role": "assistant", **answer}


def _tools(example: Example) -> dict[str, Json]:
    return {"tools": list(example.tools)} if example.tools else {}
