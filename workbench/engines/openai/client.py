"""One call, over the HTTP client that OpenAI's SDK brings (`openai.DefaultAioHttpClient`).

Not over the SDK's `post` or `create`: building its requests and response models costs two to five times the
call itself (`benchmarks/hosted.py`), and its retries know no limiter. Redirects are not followed, so a key
reaches no other host; TLS is verified. `openai`, `aiohttp` and `httpx2` are loaded when a client is opened.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from workbench.engines.openai.faults import Trouble, error_text, of_error, of_status, quotas
from workbench.engines.openai.keys import Key
from workbench.engines.openai.limiter import Quota
from workbench.engines.openai.wire import Answer, BadAnswerError, CutError, Form, Stream, Timing, parse, read_answer

WHOLE = 10
"""A call may take so many times its timeout, which is for silence: a server that drips must end, too."""
OK = 200
MOST_BYTES = 64 << 20
"""Of an answer, decompressed: more is none, and would fill the memory."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how calls are made."""

    address: str
    key: Key
    form: Form
    timeout: float
    """Seconds without a byte."""
    key_header: str | None = None
    """The header that takes the key; None: `Authorization: Bearer`."""
    api_version: str | None = None
    sign: Callable[[str, bytes], Mapping[str, str]] | None = None
    """URL and body → the headers that sign a call, where a key alone does not open the address."""

    def at(self, path: str) -> str:
        """The URL of a path of the API."""
        query = f"?{urlencode({'api-version': self.api_version})}" if self.api_version else ""
        return f"{self.address}{path}{query}"

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "prompt-workbench"}
        if self.key.value and self.key_header:
            headers[self.key_header] = self.key.value
        elif self.key.value:
            headers["Authorization"] = f"Bearer {self.key.value}"
        return headers


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    answer: Answer
    timing: Timing
    quotas: Mapping[str, Quota]


@asynccontextmanager
async def open_client(place: Place) -> AsyncIterator[Client]:
    """A client of the running event loop, closed at the end."""
    import openai

    async with openai.DefaultAioHttpClient(follow_redirects=False, timeout=place.timeout) as http:
        yield Client(place, http)


class Client:
    """Makes calls; raises `Trouble` for whatever is not an answer."""

    def __init__(self, place: Place, http: Any) -> None:
        import aiohttp
        import httpx2

        self._place, self._http = place, http
        self._request = httpx2.Request
        self._urls = [httpx2.URL(place.at(path)) for path in (place.form.PATH, place.form.STREAM_PATH or "")]
        self._new_headers = httpx2.Headers
        self._headers = httpx2.Headers(place.headers)
        self._extensions = {"timeout": httpx2.Timeout(place.timeout).as_dict()}
        self._broken = (httpx2.HTTPError, httpx2.StreamError, aiohttp.ClientError, OSError)
        self.answered = False
        """Some call got an answer."""

    async def ask(self, body: bytes, on_text: Callable[[str], None] | None = None) -> Reply:
        """One call. With `on_text` it streams, and new text is told as it comes."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(WHOLE * self._place.timeout):
                reply = await (self._streamed(body, started, on_text) if on_text else self._whole(body, started))
        except CutError as error:
            raise Trouble("connection", str(error), True, "faulty") from None
        except BadAnswerError as error:
            raise Trouble("bad_answer", self._place.key.line(str(error)), True) from None
        except TimeoutError:
            seconds = time.perf_counter() - started
            raise Trouble("timeout", f"no whole answer after {seconds:.0f} s", True, "faulty") from None
        except self._broken as error:
            raise self._told(of_error(error, self._place.timeout)) from None
        self.answered = True
        return reply

    def _prepared(self, body: bytes, *, streams: bool) -> Any:
        url, headers, sign = self._urls[streams], self._headers, self._place.sign
        if sign is not None:
            headers = self._new_headers({**self._place.headers, **sign(str(url), body)})
        return self._request("POST", url, headers=headers, content=body, extensions=self._extensions)

    async def _whole(self, body: bytes, started: float) -> Reply:
        response = await self._http.send(self._prepared(body, streams=False), stream=True)
        try:
            raw = self._place.key.hide_bytes(await _Body(response).whole())
        finally:
            await response.aclose()
        seconds = time.perf_counter() - started
        if response.status_code != OK:
            raise self._refused(response, raw)
        return Reply(read_answer(self._place.form, raw), Timing(seconds), quotas(response.headers))

    async def _streamed(self, body: bytes, started: float, on_text: Callable[[str], None]) -> Reply:
        form, key = self._place.form, self._place.key
        stream, first, last = form.Stream(), None, 0.0
        response = await self._http.send(self._prepared(body, streams=True), stream=True)
        try:
            told = _Body(response)
            if response.status_code != OK:
                raise self._refused(response, key.hide_bytes(await told.whole()))
            if await told.begins_with(b"{"):  # no event begins so: the host does not stream, and answers whole
                answer = read_answer(form, key.hide_bytes(await told.whole()))
                on_text(answer.choices[0].text)
                return Reply(answer, Timing(time.perf_counter() - started), quotas(response.headers))
            async for raw in form.events(told):
                last = time.perf_counter() - started
                if text := _fed(stream, key.hide_bytes(raw)):
                    first = first or last
                    on_text(text)
        finally:
            await response.aclose()
        timing = Timing(last, first)
        raw = key.hide_bytes(json.dumps(stream.whole()).encode())
        return Reply(read_answer(form, raw), timing, quotas(response.headers))

    def _refused(self, response: Any, raw: bytes) -> Trouble:
        return self._told(of_status(response.status_code, response.headers, error_text(raw), self.answered))

    def _told(self, trouble: Trouble) -> Trouble:
        return replace(trouble, message=self._place.key.line(trouble.message))


class _Body:
    """What a response brings; raises BadAnswerError where it is too much."""

    def __init__(self, response: Any) -> None:
        self._pieces = self._arriving(response)
        self._looked_at: list[bytes] = []

    async def begins_with(self, start: bytes) -> bool:
        """Whether it begins so, after white space; what is looked at stays to be read."""
        async for piece in self._pieces:
            self._looked_at.append(piece)
            if rest := piece.lstrip():
                return rest.startswith(start)
        return False

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        while self._looked_at:
            yield self._looked_at.pop(0)
        async for piece in self._pieces:
            yield piece

    async def _arriving(self, response: Any) -> AsyncIterator[bytes]:
        size = 0
        async for piece in response.aiter_bytes():
            size += len(piece)
            if size > MOST_BYTES:
                raise BadAnswerError(f"the answer has more than {MOST_BYTES >> 20} MiB")
            yield piece

    async def whole(self) -> bytes:
        return b"".join([piece async for piece in self.aiter_bytes()])


def _fed(stream: Stream, raw: bytes) -> str:
    """The new text of an event of a stream."""
    try:
        return stream.feed(parse(raw))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadAnswerError(f"this is no event of a stream: {raw.decode(errors='replace')[:80]!r}") from error
