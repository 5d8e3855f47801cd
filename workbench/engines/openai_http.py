"""Any address that speaks OpenAI's chat completions, through OpenAI's own client.

    engine: openai
    model: our-model
    base_url: http://127.0.0.1:8000/v1    # default: OPENAI_BASE_URL, else OpenAI itself
    api_key_env: HOUSE_KEY                # default: OPENAI_API_KEY; with a base_url of its own: no key is sent
    options: {seed: true}                 # send seeds; default: yes, but not to OpenAI, which retired them
    limits: {concurrency: 8, timeout: 60, requests_per_minute: 500}     # timeout: seconds without a byte

Parameters go out under the names they have (https://platform.openai.com/docs/api-reference/chat/create);
OpenAI itself gets `max_tokens` as `max_completion_tokens`. Overload, server errors and lost connections are
tried again by the client, which waits as long as Retry-After says. Redirects are not followed, so a key
reaches no other host, and a key never stands in a message.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from workbench.engines.base import Capabilities, Piece, Requests, failed
from workbench.engines.price import cost
from workbench.errors import EngineError, ModelError, suggest
from workbench.records import Json, Message, Model, Output, Request

OPENAI = "https://api.openai.com/v1"
_SETTINGS = ("model", "base_url", "api_key_env", "api_version", "seed")
_LIMITS = {"concurrency": 8, "timeout": 60, "retries": 3, "requests_per_minute": math.inf}
_OURS = {"model": "models", "messages": "the prompt", "stream": "the app", "n": "repeats"}
"""Fields of a call that are no sampling parameters, and what sets them."""
_LONGEST = 400
"""Characters of a server's own words that are worth keeping."""
_IDLE_SECONDS = 0.2
_LOOK_SECONDS = 0.02
"""How often a waiting engine looks for new and for cancelled requests."""
_FINISH = {"length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}
_FINISH |= {"content_filter": "content_filter"}
_Tell = Callable[[Piece | Output | EngineError], None]


class OpenAIEngine:
    """One model at one address. Raises ModelError for wrong settings or a missing key."""

    in_process = False

    def __init__(self, model: Model) -> None:
        for name in model.settings:
            if name not in _SETTINGS:
                raise ModelError(f"model '{model.alias}': unknown setting '{name}'{suggest(name, _SETTINGS)}")
        for name in model.limits:
            if name not in _LIMITS:
                raise ModelError(f"model '{model.alias}': unknown limit '{name}'{suggest(name, _LIMITS)}")
        self._model = model
        self.name = str(model.settings.get("model") or "")
        if not self.name:
            raise ModelError(f"model '{model.alias}': set `model`, the name that the server knows it by")
        self.address = address(model)
        self._limits = {**_LIMITS, **model.limits}
        self._official = urlsplit(self.address).hostname == urlsplit(OPENAI).hostname
        self._key = _key(model)
        seeds = bool(model.settings.get("seed", not self._official))
        self.capabilities = Capabilities(seeds=seeds, logprobs=20, schema=True, tools=True, images=True)

    @property
    def identity(self) -> str:
        return f"openai:{self.name}@{self.address}"

    def check_params(self, params: Mapping[str, Json]) -> None:
        """Only the server knows its parameters; refused is what is none."""
        for name in params.keys() & _OURS:
            raise ModelError(f"'{name}' is no sampling parameter; it is set by {_OURS[name]}")

    def count_tokens(self, request: Request) -> int:
        """An estimate: four characters a token, and four tokens a message."""
        return sum(math.ceil(len(message.text) / 4) + 4 for message in request.messages)

    def describe(self) -> dict[str, object]:
        return {"model": self.name, "address": self.address, "seeds": self.capabilities.seeds}

    def work(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        """Holds nothing: each `generate` opens its own connections."""

    def generate(self, requests: Requests) -> Iterator[Piece | Output]:
        """As many calls at a time as the limit allows; see `engines.base.Engine`.

        Raises EngineError where the address refuses the key, the model or every request.
        """
        told: queue.SimpleQueue[Piece | Output | EngineError] = queue.SimpleQueue()
        with _event_loop() as loop, self._client(loop) as client:
            alive: dict[str, tuple[Request, Future[None]]] = {}
            pace = _Pace(int(self._limits["concurrency"]), 60 / self._limits["requests_per_minute"])
            while True:
                free = pace.free(len(alive))
                for request in requests.take(free, 0 if alive else _IDLE_SECONDS) if free > 0 else ():
                    call = asyncio.run_coroutine_threadsafe(self._ask(client, request, told.put), loop)
                    alive[request.id] = request, call
                    pace.asked()
                for gone in alive.keys() & requests.cancelled():
                    request, call = alive.pop(gone)
                    call.cancel()
                    yield failed(request, "cancelled", "nobody waits for this answer any more")
                if not alive and requests.closed:
                    return
                yield from self._arrived(told, alive)

    def _arrived(self, told: queue.SimpleQueue[Any], alive: dict[str, Any]) -> Iterator[Piece | Output]:
        """What has come since, waiting a moment for the first if something is alive."""
        wait = bool(alive)
        while True:
            try:
                item = told.get(block=wait, timeout=_LOOK_SECONDS)
            except queue.Empty:
                return
            wait = False
            if isinstance(item, EngineError):
                raise item
            if item.request_id in alive:
                if isinstance(item, Output):
                    del alive[item.request_id]
                yield item

    @contextmanager
    def _client(self, loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
        import openai

        version = self._model.settings.get("api_version")
        client = openai.AsyncOpenAI(
            api_key=self._key or "no-key",
            base_url=self.address,
            timeout=float(self._limits["timeout"]),
            max_retries=int(self._limits["retries"]),
            default_query={"api-version": version} if version else None,
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        )
        try:
            yield client
        finally:
            asyncio.run_coroutine_threadsafe(client.close(), loop).result(10)

    async def _ask(self, client: Any, request: Request, tell: _Tell) -> None:
        """One request to its output. Never raises but when cancelled; a hopeless error goes to `tell` too."""
        from openai import OpenAIError

        started = time.perf_counter()
        try:
            # The client's timeout is for silence; a server that drips bytes must come to an end, too.
            async with asyncio.timeout(10 * float(self._limits["timeout"])):
                if request.stream:
                    output = await self._streamed(client, request, tell)
                else:
                    output = await self._whole(client, request)
            tell(output)
        except TimeoutError:
            seconds = time.perf_counter() - started
            tell(failed(request, "timeout", f"no whole answer after {seconds:.0f} s", retry=True))
        except _BadAnswerError as error:
            tell(failed(request, "bad_answer", self._clean(str(error)), retry=True))
        except ModelError as error:
            tell(failed(request, "refused", self._clean(str(error))))
        except OpenAIError as error:
            tell(self._failure(request, error))
        except Exception as error:  # noqa: BLE001 - httpx's own, from the middle of a stream
            tell(failed(request, "connection", self._clean(f"the answer broke off: {error!r}"), retry=True))

    async def _whole(self, client: Any, request: Request) -> Output:
        raw = await client.chat.completions.with_raw_response.create(**self._call(request))
        try:
            answer = json.loads(raw.content)
            choice = answer["choices"][0]
            message = choice["message"]
            return self._output(
                request,
                {
                    "text": message.get("content") or "",
                    "finish": choice.get("finish_reason"),
                    "logprobs": (choice.get("logprobs") or {}).get("content") or (),
                    "tool_calls": message.get("tool_calls") or (),
                    "refusal": message.get("refusal"),
                    "seconds": raw.elapsed.total_seconds(),
                },
                answer,
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            start = raw.content[:80].decode(errors="replace")
            raise _BadAnswerError(f"this is no chat completion: {start!r}") from error

    async def _streamed(self, client: Any, request: Request, tell: _Tell) -> Output:
        started = time.perf_counter()
        got: dict[str, Any] = {"text": "", "finish": None, "logprobs": [], "refusal": None, "first": None}
        calls: dict[int, dict[str, Any]] = {}
        last: dict[str, Any] = {}
        options = {"stream": True, "stream_options": {"include_usage": True}}
        async for chunk in await client.chat.completions.create(**self._call(request), **options):
            data = chunk.model_dump()
            last = {**last, **{key: value for key, value in data.items() if value is not None}}
            for choice in (data.get("choices") or ())[:1]:
                delta = choice.get("delta") or {}
                if text := delta.get("content"):
                    got["first"] = got["first"] or time.perf_counter() - started
                    got["text"] += text
                    tell(Piece(request.id, text))
                got["finish"] = choice.get("finish_reason") or got["finish"]
                got["logprobs"] += (choice.get("logprobs") or {}).get("content") or ()
                for part in delta.get("tool_calls") or ():
                    _grow(calls.setdefault(part["index"], {}), part)
        if got["finish"] is None:
            raise _BadAnswerError("the stream ended before the answer did")
        got |= {"tool_calls": tuple(calls.values()), "seconds": time.perf_counter() - started}
        return self._output(request, got, last)

    def _call(self, request: Request) -> dict[str, Any]:
        """The keyword arguments of the client's call."""
        body = dict(request.params)
        if self._official and "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        if self.capabilities.seeds and request.seed is not None:
            body.setdefault("seed", request.seed % 2**31)
        if request.logprobs:
            body |= {"logprobs": True, "top_logprobs": request.logprobs}
        if "schema" in request.answer:
            form = {"name": "answer", "schema": request.answer["schema"], "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if request.tools:
            body["tools"] = [_tool(tool) for tool in request.tools]
        messages = [_message(message) for message in request.messages]
        return {"model": self.name, "messages": messages, "extra_body": body}

    def _output(self, request: Request, got: Mapping[str, Any], answer: Mapping[str, Any]) -> Output:
        usage = answer.get("usage") or {}
        asked, told = usage.get("prompt_tokens"), usage.get("completion_tokens")
        extra = {"model": answer.get("model"), "system_fingerprint": answer.get("system_fingerprint")}
        extra["refusal"] = got["refusal"]
        return Output(
            request.id,
            got["text"],
            _FINISH.get(got["finish"], "stop"),
            prompt_tokens=asked,
            output_tokens=told,
            seconds=got["seconds"],
            first_token_seconds=got.get("first"),
            cost=cost(self._model.price, asked, told),
            logprobs=tuple(_logprob(entry) for entry in got["logprobs"]),
            tool_calls=tuple(got["tool_calls"]),
            extra={key: value for key, value in extra.items() if value is not None},
        )

    def _failure(self, request: Request, error: Exception) -> Output | EngineError:
        """The SDK's error as a failed output, or as the end of all requests."""
        import openai

        status = getattr(error, "status_code", None)
        message = self._clean(str(error))
        if isinstance(error, openai.APITimeoutError):
            return failed(request, "timeout", f"no answer within {self._limits['timeout']} s", retry=True)
        if status is None:
            return failed(request, "connection", self._clean(f"{message} {error.__cause__ or ''}"), retry=True)
        if 300 <= status < 400:
            place = error.response.headers.get("location", "elsewhere")  # type: ignore[attr-defined]
            return EngineError(f"{self.address} redirects to {self._clean(place)}; set `base_url` to where it moved")
        if status == 401:
            return EngineError(
                f"{self.address} refuses the key ({_key_variable(self._model) or 'none sent'}): {message}"
            )
        if status == 404:
            return EngineError(f"{self.address} knows no model '{self.name}', or is no such API: {message}")
        if status == 429:
            return failed(request, "rate_limit", message, retry="insufficient_quota" not in message)
        if status >= 500:
            return failed(request, "server", message, retry=True)
        return failed(request, "auth" if status == 403 else "refused", message)

    def _clean(self, text: str) -> str:
        """One line, not too long, without the key."""
        line = " ".join(text.split())
        line = line.replace(self._key, "[key]") if self._key else line
        return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"


class _Pace:
    """How many calls may begin now: so many in flight, and so many seconds from one to the next."""

    def __init__(self, at_once: int, apart: float) -> None:
        self._at_once, self._apart, self._next = at_once, apart, 0.0

    def free(self, alive: int) -> int:
        free = self._at_once - alive
        if not self._apart or free <= 0:
            return free
        if (wait := self._next - time.monotonic()) > 0:
            time.sleep(min(wait, _LOOK_SECONDS))
            return 0
        return 1

    def asked(self) -> None:
        self._next = max(self._next, time.monotonic()) + self._apart


class _BadAnswerError(Exception):
    """What came back is no answer."""


def address(model: Model) -> str:
    """Where the model is asked, without a slash at its end."""
    return str(model.settings.get("base_url") or os.environ.get("OPENAI_BASE_URL") or OPENAI).rstrip("/")


def _key_variable(model: Model) -> str | None:
    """The environment variable with the key; None: no key is sent. OpenAI's key goes to no other address
    that the project names, unless the project names the variable as well."""
    if "base_url" in model.settings and "api_key_env" not in model.settings:
        return None
    return str(model.settings.get("api_key_env", "OPENAI_API_KEY"))


def _key(model: Model) -> str:
    variable = _key_variable(model)
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ModelError(f"model '{model.alias}' needs a key: set the environment variable {variable}")
    return key


@contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own; what still runs in it at the end is cancelled."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="openai", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _message(message: Message) -> Json:
    if message.role == "raw":
        raise ModelError("a hosted chat model takes messages, not a raw text; write role markers in the prompt")
    content = message.to_json()
    if isinstance(content["content"], list):
        content["content"] = [
            {"type": "image_url", "image_url": {"url": part["image"]}} if part["type"] == "image" else part
            for part in content["content"]
        ]
    return content


def _tool(tool: Json) -> Json:
    """A tool as the API wants it; a prompt may give the function alone."""
    if "function" in tool:
        return tool
    return {"type": "function", "function": {k: v for k, v in tool.items() if k not in ("type", "kind")}}


def _grow(call: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Add a streamed piece of a tool call to what came before."""
    function = call.setdefault("function", {"name": "", "arguments": ""})
    call["id"] = part.get("id") or call.get("id")
    call["type"] = "function"
    for key in function:
        function[key] += (part.get("function") or {}).get(key) or ""


def _logprob(entry: Mapping[str, Any]) -> Json:
    top = [[other["token"], other["logprob"]] for other in entry.get("top_logprobs") or ()]
    return {"token": entry["token"], "logprob": entry["logprob"], "top": top}
