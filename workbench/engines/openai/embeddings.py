"""Embeddings (https://platform.openai.com/docs/api-reference/embeddings): a text to a vector of length 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from workbench.engines.openai.hosts import Host
from workbench.engines.openai.wire import Answer, Choice, Usage
from workbench.errors import ModelError
from workbench.records import Json, Request

PATH, STREAM_PATH = "/embeddings", None
REFUSED: frozenset[str] = frozenset()


def body(model: str, host: Host, request: Request) -> dict[str, Json]:
    """What is sent; raises ModelError for what asks for a text."""
    if "embedding" not in request.answer:
        raise ModelError("this model has 'api: embeddings': it gives no text; take another for answers")
    text = "\n".join(message.text for message in request.messages)
    return {"model": model, "input": text, "encoding_format": "float", **request.params}


def read(answer: Mapping[str, Any]) -> Answer:
    """Raises LookupError, TypeError, AttributeError or ValueError where it is none."""
    usage = answer.get("usage") or {}
    vectors = [[float(x) for x in row["embedding"]] for row in answer["data"]]
    lengths = [math.hypot(*vector) for vector in vectors]
    if not vectors or not all(length > 0 and math.isfinite(length) for length in lengths):
        raise ValueError("no vector, or one without a length")
    unit = [[x / length for x in vector] for vector, length in zip(vectors, lengths, strict=True)]
    choices = [Choice("", "stop", embedding=vector) for vector in unit]
    return Answer(choices, Usage(usage.get("prompt_tokens"), 0), answer.get("model"))
