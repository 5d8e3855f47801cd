"""Models of Amazon Bedrock by its Converse API, which all its chat models speak, Claude among them.

    engine: bedrock
    model: us.anthropic.claude-sonnet-4-20250514-v1:0   # a model or an inference profile
    options: {region: us-east-2}                        # default: AWS_REGION, else us-east-1
    api_key_env: AWS_BEARER_TOKEN_BEDROCK               # the default: a Bedrock API key
    limits: {concurrency: 8}

The form: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html. Bedrock's address that
speaks OpenAI's protocol is another way to the models that it has (`engine: openai` with that `base_url`); Claude is
not among them. Images, streaming and signed requests (SigV4) are not supported.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from workbench.engines.base import Capabilities, Requests, estimated_tokens, failed
from workbench.engines.price import cost
from workbench.engines.threads import answered_in_threads
from workbench.errors import ModelError, suggest
from workbench.records import Json, Message, Model, Output, Request, content_id

_SETTINGS = ("model", "region", "api_key_env", "base_url")
_PARAMS = {"max_tokens": "maxTokens", "temperature": "temperature", "top_p": "topP", "stop": "stopSequences"}
_FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls",
    "model_context_window_exceeded": "length", "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}  # fmt: skip
_KINDS = {400: "bad_request", 401: "refused", 403: "refused", 404: "refused", 408: "timeout", 429: "rate_limit"}
_AT_ONCE, _TRIES, _TIMEOUT = 8, 4, 300.0
_MOST_BYTES = 16 << 20


class BedrockEngine:
    """Raises ModelError for wrong settings, and where no key is set."""

    in_process = False
    _params = frozenset((*_PARAMS, "tool_choice"))
    capabilities = Capabilities(tools=True, params=_params)

    def __init__(self, model: Model) -> None:
        settings, who = model.settings, f"model '{model.alias}'"
        for name in settings:
            if name not in _SETTINGS:
                raise ModelError(f"{who}: unknown setting '{name}'{suggest(name, _SETTINGS)}")
        self._model, self._name = model, str(settings.get("model") or "")
        if not self._name:
            raise ModelError(f"{who} needs a `model`, the id of a model or an inference profile of Bedrock")
        region = str(settings.get("region") or os.environ.get("AWS_REGION") or "us-east-1")
        if not re.fullmatch(r"[a-z0-9-]+", region):
            raise ModelError(f"{who}: region {region!r} is none, such as us-east-1")
        self._address = str(settings.get("base_url") or f"https://bedrock-runtime.{region}.amazonaws.com").rstrip("/")
        if not re.match(r"https://|http://(127\.0\.0\.1|localhost)(:\d+)?(/|$)", self._address):
            raise ModelError(f"{who}: base_url has to begin with https://; a key is not sent in the open")
        variable = str(settings.get("api_key_env") or "AWS_BEARER_TOKEN_BEDROCK")
        self._key = os.environ.get(variable, "")
        if not self._key:
            raise ModelError(f"{who} needs a key of Amazon Bedrock: set the environment variable {variable}")
        self._at_once = int(model.limits.get("concurrency", _AT_ONCE))

    @property
    def identity(self) -> str:
        return content_id("bedrock", [self._address, self._name])

    def check_params(self, params: Mapping[str, Json]) -> None:
        for name in params:
            if name not in self._params:
                raise ModelError(f"Bedrock's Converse API knows no parameter '{name}'{suggest(name, self._params)}")

    def count_tokens(self, request: Request) -> int:
        return estimated_tokens(request)

    def describe(self) -> dict[str, object]:
        return {"address": self._address}

    def work(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        """Holds nothing."""

    def generate(self, requests: Requests) -> Iterator[Output]:
        """See `engines.base.Engine`; a call that is under way is waited for."""
        return answered_in_threads(requests, self._ask, self._at_once, self._model.alias)

    def _ask(self, request: Request) -> Output:
        """Asks, and again where that can help, after 1, 2 and 4 seconds."""
        for attempt in range(_TRIES):
            output = self._once(request)
            if output.failure is None or not output.failure.retry or attempt == _TRIES - 1:
                break
            time.sleep(2.0**attempt)
        return output

    def _once(self, request: Request) -> Output:
        place = f"{self._address}/model/{quote(self._name, safe='')}/converse"
        head = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            body = json.dumps(converse_body(request)).encode()
        except ModelError as error:
            return failed(request, "bad_request", str(error))
        asked = urllib.request.Request(place, body, head)  # noqa: S310 - https, or this machine: see above
        started = time.perf_counter()
        try:
            with _OPENER.open(asked, timeout=_TIMEOUT) as reply:
                given = json.loads(reply.read(_MOST_BYTES))
            seconds = time.perf_counter() - started
            return self._output(request, given, seconds)
        except urllib.error.HTTPError as error:
            retry = error.code in (408, 429) or error.code >= 500
            kind = _KINDS.get(error.code, "server")
            return failed(request, kind, f"HTTP {error.code}: {_told(error)}", retry=retry)
        except (OSError, TimeoutError) as error:
            return failed(request, "connection", f"{self._address}: {error}"[:300], retry=True)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            return failed(request, "bad_answer", f"the answer is none of Converse: {type(error).__name__}: {error}")

    def _output(self, request: Request, given: Mapping[str, Any], seconds: float) -> Output:
        blocks = given["output"]["message"]["content"]
        usage = given.get("usage") or {}
        asked, wrote = usage.get("inputTokens"), usage.get("outputTokens")
        return Output(
            request.id,
            "".join(block["text"] for block in blocks if "text" in block),
            _FINISH.get(given.get("stopReason", "end_turn"), "stop"),
            prompt_tokens=asked,
            output_tokens=wrote,
            seconds=seconds,
            cost=cost(self._model.price, asked, wrote),
            tool_calls=tuple(_call(block["toolUse"]) for block in blocks if "toolUse" in block),
        )


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: the key is for one address."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Straight)


def converse_body(request: Request) -> dict[str, Json]:
    """What is sent; raises ModelError for what the API can't take."""
    chat = [message for message in request.messages if message.role not in ("system", "developer")]
    body: dict[str, Json] = {"messages": _messages(chat)}
    if system := [{"text": m.text} for m in request.messages if m.role in ("system", "developer")]:
        body["system"] = system
    settings = {_PARAMS[name]: value for name, value in request.params.items() if name in _PARAMS}
    if isinstance(settings.get("stopSequences"), str):
        settings["stopSequences"] = [settings["stopSequences"]]
    if settings:
        body["inferenceConfig"] = settings
    choice = request.params.get("tool_choice")
    if request.tools and choice != "none":
        body["toolConfig"] = {"tools": [_tool(tool) for tool in request.tools], **_choice(choice)}
    return body


def _messages(messages: list[Message]) -> list[Json]:
    """Roles must alternate: what follows in the same role joins it."""
    joined: list[dict[str, Any]] = []
    for message in messages:
        if message.role not in ("user", "assistant") or any(part.kind != "text" for part in message.parts):
            raise ModelError(f"a message of the role '{message.role}' with more than text can't go to Bedrock")
        if joined and joined[-1]["role"] == message.role:
            joined[-1]["content"].append({"text": message.text})
        else:
            joined.append({"role": message.role, "content": [{"text": message.text}]})
    return joined


def _tool(tool: Mapping[str, Any]) -> Json:
    function = tool.get("function", tool)
    told = {"description": function["description"]} if function.get("description") else {}
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    return {"toolSpec": {"name": function["name"], **told, "inputSchema": {"json": schema}}}


def _choice(choice: Json) -> dict[str, Json]:
    """`toolChoice`, from the words of OpenAI's API."""
    if isinstance(choice, Mapping):
        return {"toolChoice": {"tool": {"name": choice["function"]["name"]}}}
    return {} if choice is None else {"toolChoice": {"any" if choice == "required" else "auto": {}}}


def _call(use: Mapping[str, Any]) -> Json:
    """A tool call as all engines give it."""
    arguments = json.dumps(use.get("input") or {}, ensure_ascii=False)
    function = {"name": use["name"], "arguments": arguments}
    return {"id": use.get("toolUseId"), "type": "function", "function": function}


def _told(error: urllib.error.HTTPError) -> str:
    """The API's own words for an error, one line."""
    try:
        text = error.read(4096).decode(errors="replace")
        text = str(json.loads(text).get("message") or text)
    except (OSError, ValueError, AttributeError):
        text = str(error.reason)
    return " ".join(text.split())[:300]
