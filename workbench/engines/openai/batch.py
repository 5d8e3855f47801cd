"""Batches: many requests in one file, answered within a day, for less.

Sources: https://platform.openai.com/docs/guides/batch and the references of files and batches there. A file
holds one request a line, all of one model and one endpoint; answers and errors come as two files, in any
order, known by `custom_id`. Only what OpenAI documents is used.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import IO, Any
from urllib.parse import quote

from workbench.engines.base import BatchState, BatchStatus
from workbench.engines.openai.client import MOST_BYTES as MOST_AT_ONCE
from workbench.engines.openai.client import OK, WHOLE
from workbench.engines.openai.faults import Trouble, error_text, of_status
from workbench.engines.openai.limiter import backoff
from workbench.engines.openai.session import Plan
from workbench.engines.openai.wire import BadAnswerError, Timing, outputs, parse, read_answer
from workbench.errors import EngineError
from workbench.records import Failure, Json, Output, Request

WINDOW = "24h"
"""The one completion window that there is."""
MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000
"""… in a batch and in its file."""
PAGE = 100
"""Batches or files that are listed at a time, as many as the API gives."""
MOST_PAGES = 1000
"""… of a list: one that goes on has no end."""
LONGEST_WAIT = 60.0
"""Seconds before another try, at most."""
_ENDED: Mapping[str, BatchStatus] = {
    "completed": "completed",
    "expired": "expired",
    "cancelled": "cancelled",
    "failed": "failed",
}
_ENDS = ("completed_at", "expired_at", "cancelled_at", "failed_at")
_UNASKED = ("batch_expired", "batch_cancelled")
"""Codes of requests that a batch ended without asking."""


@contextmanager
def open_host(plan: Plan) -> Iterator[OpenAIBatches]:
    """The files and batches of the plan's address; the connection is closed at the end."""
    import httpx2

    # files and batches are the resource's, not the deployment's, at addresses of Azure that name one
    place = replace(plan.place, address=plan.place.address.partition("/deployments/")[0])
    with httpx2.Client(follow_redirects=False, timeout=place.timeout) as http:
        yield OpenAIBatches(replace(plan, place=place), http, (httpx2.HTTPError, httpx2.StreamError, OSError))


@dataclass(frozen=True, slots=True)
class OpenAIBatches:
    """See `engines.base.BatchHost`."""

    _plan: Plan
    _http: Any
    _broken: tuple[type[BaseException], ...]

    @property
    def most_requests(self) -> int:
        return MOST_REQUESTS

    @property
    def most_bytes(self) -> int:
        return MOST_BYTES

    @property
    def price_factor(self) -> float | None:
        return self._plan.host.batch_price_factor

    def line(self, request: Request) -> bytes:
        plan = self._plan
        body = plan.place.form.body(plan.model, plan.host, request)
        row = {"custom_id": request.id, "method": "POST", "url": self._endpoint, "body": body}
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @property
    def _endpoint(self) -> str:
        return f"/v1{self._plan.place.form.PATH}"

    def upload(self, name: str, content: IO[bytes]) -> str:
        def send() -> Json:
            content.seek(0)
            files = {"file": (name, content, "application/jsonl")}
            return self._once("POST", "/files", files=files, data={"purpose": "batch"})

        return str(self._patiently(send)["id"])

    def find_file(self, name: str) -> str | None:
        rows = self._listed("/files", {"purpose": "batch"})
        return next((str(row["id"]) for row in rows if row.get("filename") == name), None)

    def create(self, file: str, marks: Mapping[str, str]) -> BatchState:
        """Not tried again here: whoever asked looks first whether it began (`find`)."""
        body = {
            "input_file_id": file,
            "endpoint": self._endpoint,
            "completion_window": WINDOW,
            "metadata": dict(marks),
        }
        try:
            return _state(self._once("POST", "/batches", json=body))
        except Trouble as trouble:
            raise self._error(trouble) from None

    def find(self, marks: Mapping[str, str], file: str) -> BatchState | None:
        """By its file, which is in one batch only: not every host keeps metadata."""
        for row in self._listed("/batches", {}):
            if row.get("input_file_id") == file or marks.items() <= (row.get("metadata") or {}).items():
                return _state(row)
        return None

    def state(self, batch: str) -> BatchState:
        return _state(self._get(f"/batches/{quote(batch, safe='')}"))

    def cancel(self, batch: str) -> BatchState:
        try:
            return _state(self._once("POST", f"/batches/{quote(batch, safe='')}/cancel"))
        except Trouble:  # it may have ended before, or have been told already: its state says
            return self.state(batch)

    def outputs(self, state: BatchState, ids: Collection[str]) -> Iterator[Output]:
        left = set(ids)
        for file in state.files:
            for raw in self._lines(f"/files/{quote(file, safe='')}/content"):
                output = self._output(raw, left)
                if output is not None:
                    left.discard(output.request_id)
                    yield output

    def _output(self, raw: bytes, wanted: Collection[str]) -> Output | None:
        """What a line of a result tells; None where it is of no wanted request, or of one that was not asked."""
        try:
            row = parse(raw)
            name, response, error = row["custom_id"], row.get("response") or {}, row.get("error") or {}
            if name not in wanted or error.get("code") in _UNASKED:
                return None
            status, body = int(response.get("status_code") or 0), json.dumps(response.get("body")).encode()
        except (ValueError, LookupError, TypeError, AttributeError):
            return None
        if status == OK:
            try:
                answer = read_answer(self._plan.place.form, body)
                return next(outputs([name], answer, Timing(None), self._plan.price))
            except (BadAnswerError, StopIteration) as problem:
                return self._failed(name, Trouble("bad_answer", str(problem) or "no answer in it", True))
        if not status:
            return self._failed(name, Trouble("server", error_text(json.dumps(error).encode()), True))
        return self._failed(name, of_status(status, {}, error_text(body), True))

    def _failed(self, request: str, trouble: Trouble) -> Output:
        failure = Failure(trouble.kind, self._plan.place.key.line(trouble.message), trouble.again)
        return Output(request, finish_reason="failed", failure=failure)

    def _lines(self, path: str) -> Iterator[bytes]:
        """The lines of a file as they come, so that a large one is never in memory."""
        key, rest = self._plan.place.key, b""
        try:
            with self._http.stream("GET", self._plan.place.at(path), headers=self._headers) as response:
                if response.status_code != OK:
                    raise self._error(self._refused(response, response.read()))
                for piece in response.iter_bytes():
                    *lines, rest = (rest + piece).split(b"\n")
                    yield from (key.hide_bytes(line) for line in lines if line.strip())
                    if len(rest) > MOST_AT_ONCE:
                        raise self._error(_too_much("a line of its answers"))
        except self._broken as error:
            raise self._error(self._unsent(error)) from None
        if rest.strip():
            yield key.hide_bytes(rest)

    def _listed(self, path: str, query: Mapping[str, str]) -> Iterator[Mapping[str, Json]]:
        """Files or batches, the newest first, page by page."""
        after: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            page = self._get(path, "data", {**query, "limit": str(PAGE), **after})
            rows = page["data"] or []
            if not isinstance(rows, list) or not all(isinstance(row, dict) and row.get("id") for row in rows):
                raise self._error(Trouble("bad_answer", f"this is no list of {path}: {str(rows)[:80]}"))
            yield from rows
            if not rows or not page.get("has_more"):
                return
            before, after = after, {"after": str(rows[-1]["id"])}
            if after == before:
                break
        advice = "ask the provider why, or give the batch up: workbench batches cancel RUN --forget"
        raise self._error(Trouble("bad_answer", f"its list of {path} has no end; {advice}"))

    def _get(self, path: str, wanted: str = "id", query: Mapping[str, str] | None = None) -> Json:
        return self._patiently(lambda: self._once("GET", path, wanted, params=dict(query or {})))

    def _patiently(self, call: Callable[[], Json]) -> Json:
        """Tries again as often as the model's `retries` says. Raises EngineError."""
        for tries in range(self._plan.retries + 1):
            try:
                return call()
            except Trouble as trouble:
                if not trouble.again or tries == self._plan.retries:
                    raise self._error(trouble) from None
                time.sleep(min(max(trouble.wait or 0.0, backoff(tries + 1)), LONGEST_WAIT))
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, wanted: str = "id", **more: Any) -> Json:
        """One call; raises Trouble for whatever is not an answer that has what is `wanted`."""
        headers = {k: v for k, v in self._headers.items() if "files" not in more or k != "Content-Type"}
        try:
            with self._http.stream(method, self._plan.place.at(path), headers=headers, **more) as response:
                raw = self._plan.place.key.hide_bytes(self._whole(response))
        except self._broken as error:
            raise self._unsent(error) from None
        if not response.is_success:  # Azure creates with 201
            raise self._refused(response, raw)
        try:
            answer = parse(raw)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or wanted not in answer:
            raise Trouble("bad_answer", f"this is no answer of {path}: {raw[:80].decode(errors='replace')!r}", True)
        return answer

    def _whole(self, response: Any) -> bytes:
        """A body that has an end, in bytes and in time."""
        pieces, size, until = [], 0, time.monotonic() + WHOLE * self._plan.place.timeout
        for piece in response.iter_bytes():
            size += len(piece)
            if size > MOST_AT_ONCE:
                raise _too_much("the answer")
            if time.monotonic() > until:
                raise Trouble("timeout", "no whole answer after many times the timeout", True)
            pieces.append(piece)
        return b"".join(pieces)

    @property
    def _headers(self) -> Mapping[str, str]:
        return self._plan.place.headers

    def _refused(self, response: Any, raw: bytes) -> Trouble:
        return of_status(response.status_code, response.headers, error_text(raw), True)

    def _unsent(self, error: BaseException) -> Trouble:
        return Trouble("connection", f"no answer: {error or type(error).__name__}", True)

    def _error(self, trouble: Trouble) -> EngineError:
        place = self._plan.place
        line = place.key.line(trouble.message)
        if trouble.kind == "auth":
            return EngineError(f"{place.address} refuses the key ({place.key.variable or 'none sent'}): {line}")
        if trouble.kind == "no_model":
            return EngineError(f"{place.address} takes no batches, or no longer has what was asked for: {line}")
        return EngineError(f"{place.address}: {line}")


def _too_much(what: str) -> Trouble:
    return Trouble("bad_answer", f"{what} has more than {MOST_AT_ONCE >> 20} MiB")


def _state(row: Mapping[str, Json]) -> BatchState:
    """Raises EngineError where the row is no batch."""
    try:
        return _read_state(row)
    except (LookupError, TypeError, AttributeError, ValueError):
        raise EngineError(f"what the provider shows is no batch: {str(row)[:80]}") from None


def _read_state(row: Mapping[str, Json]) -> BatchState:
    counts, said = row.get("request_counts") or {}, str(row.get("status"))
    problems = [str(one.get("message")) for one in (row.get("errors") or {}).get("data") or ()]
    return BatchState(
        str(row["id"]),
        _ENDED.get(said.lower(), "submitted"),
        said,
        int(counts.get("total") or 0),
        int(counts.get("completed") or 0),
        int(counts.get("failed") or 0),
        tuple(str(row[name]) for name in ("output_file_id", "error_file_id") if row.get(name)),
        "; ".join(dict.fromkeys(problems)),
        _time(row.get("created_at")),
        next((_time(row[name]) for name in _ENDS if row.get(name)), None),
    )


def _time(told: Json) -> float | None:
    """Seconds since 1970: OpenAI gives these, Azure a date."""
    try:
        return float(told) if isinstance(told, (int, float)) else datetime.fromisoformat(str(told)).timestamp()
    except ValueError:
        return None
