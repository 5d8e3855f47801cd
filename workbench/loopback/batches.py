"""Files and batches (https://platform.openai.com/docs/api-reference/batch).

A batch goes through validating, in_progress, finalizing and completed, or expired, within the script's `batch_seconds`.
Nothing runs meanwhile: its state follows from the time when somebody looks. Its answers come in a shuffled
order, those that failed in a file of their own; a cancelled batch has the answers that were ready.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from workbench.loopback.answers import BadCallError
from workbench.loopback.books import Call
from workbench.loopback.replies import CHAT, EMBEDDINGS, RESPONSES, Reply, whole
from workbench.loopback.script import Script
from workbench.records import Json

_PAGE = 20
Note = Callable[[str, Mapping[str, Any]], Call]
"""Counts one line of a batch, an endpoint and a body, as a call."""
Answer = Callable[[Call], Reply]


@dataclass(frozen=True, slots=True)
class Stored:
    """An uploaded file, or what a batch wrote."""

    shown: dict[str, Json]
    content: bytes


@dataclass(slots=True)
class _Batch:
    shown: dict[str, Json]
    """What never changes: id, input file, endpoint, metadata, …"""
    begun: float
    """On the monotonic clock."""
    seconds: float
    lines: list[tuple[str, Call]]
    """Each custom_id with its call."""
    errors: list[Json]
    """Why the input was refused; empty: it was not."""
    cancelled: float | None = None
    settled: dict[str, Json] = field(default_factory=dict)
    """Status, output files and counts, once all is over."""


class Batches:
    """All files and batches of one server."""

    def __init__(self, note: Note, answer: Answer) -> None:
        self._note, self._answer = note, answer
        self._files: dict[str, Stored] = {}
        self._batches: dict[str, _Batch] = {}

    async def upload(self, request: web.Request, _: Script) -> Reply:
        form = await request.post()
        file, purpose = form.get("file"), str(form.get("purpose", ""))
        if not isinstance(file, web.FileField) or not purpose:
            raise BadCallError("'file' and 'purpose' are required", "file", "missing_required_parameter")
        return whole(self._keep(file.file.read(), file.filename, purpose).shown)

    def _keep(self, content: bytes, name: str, purpose: str) -> Stored:
        shown = {
            "id": f"file-{len(self._files) + 1:06d}",
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        self._files[str(shown["id"])] = Stored(shown, content)
        return self._files[str(shown["id"])]

    async def list_files(self, request: web.Request, _: Script) -> Reply:
        purpose = request.query.get("purpose")
        rows = [f.shown for f in reversed(self._files.values()) if f.shown]
        return _page([row for row in rows if purpose in (None, row["purpose"])], request)

    async def file(self, request: web.Request, _: Script) -> Reply:
        return whole(self._file(request).shown)

    async def content(self, request: web.Request, _: Script) -> Reply:
        return Reply((self._file(request).content,))

    async def delete(self, request: web.Request, _: Script) -> Reply:
        name = self._file(request).shown["id"]
        self._files[name] = Stored({}, b"")  # its number is not given again
        return whole({"id": name, "object": "file", "deleted": True})

    def _file(self, request: web.Request) -> Stored:
        return self._stored(request.match_info["id"])

    def _stored(self, name: str) -> Stored:
        found = self._files.get(name)
        if found is None or not found.shown:
            raise BadCallError(f"No such File object: {name}", "id", None, 404)
        return found

    async def create(self, request: web.Request, script: Script) -> Reply:
        body = await request.json()
        endpoint = str(body.get("endpoint", "")).removeprefix("/v1")
        if endpoint not in (CHAT, RESPONSES, EMBEDDINGS):
            raise BadCallError(f"Invalid value: '{body.get('endpoint')}'.", "endpoint", "invalid_value")
        content = self._stored(str(body.get("input_file_id"))).content
        lines, errors = _read(content, str(body["endpoint"]))
        now = int(time.time())
        shown = {
            "id": f"batch_{len(self._batches) + 1:06d}",
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": body.get("completion_window", "24h"),
            "created_at": now,
            "expires_at": now + 24 * 3600,
            "metadata": body.get("metadata"),
        }
        calls = [(name, self._note(endpoint, asked)) for name, asked in lines] if not errors else []
        batch = _Batch(shown, time.monotonic(), script.batch_seconds, calls, errors)
        self._batches[str(shown["id"])] = batch
        return whole(self._state(batch, script))

    async def list_batches(self, request: web.Request, script: Script) -> Reply:
        return _page([self._state(batch, script) for batch in reversed(self._batches.values())], request)

    async def batch(self, request: web.Request, script: Script) -> Reply:
        return whole(self._state(self._batch(request), script))

    async def cancel(self, request: web.Request, script: Script) -> Reply:
        batch = self._batch(request)
        status = self._state(batch, script)["status"]
        if status in ("completed", "failed", "cancelled"):
            raise BadCallError(f"Cannot cancel a batch with status '{status}'.", None, "invalid_request", 409)
        batch.cancelled = batch.cancelled or time.monotonic()
        return whole(self._state(batch, script))

    def _batch(self, request: web.Request) -> _Batch:
        name = request.match_info["id"]
        if name not in self._batches:
            raise BadCallError(f"No batch found with id '{name}'.", "id", None, 404)
        return self._batches[name]

    def _state(self, batch: _Batch, script: Script) -> dict[str, Json]:
        """The batch as it stands now."""
        ended = batch.cancelled or time.monotonic()
        share = min(1.0, (ended - batch.begun) / batch.seconds) if batch.seconds else 1.0
        most = 1.0 if script.batch_expires is None else script.batch_expires
        done = int(min(share, most) * len(batch.lines))
        counts = {"total": len(batch.lines), "completed": done, "failed": 0}
        state = {"output_file_id": None, "error_file_id": None, "errors": None, "request_counts": counts}
        if batch.errors:
            return {**batch.shown, **state, "status": "failed", "errors": {"object": "list", "data": batch.errors}}
        cancelling = batch.cancelled and time.monotonic() < batch.cancelled + batch.seconds / 10
        if cancelling or (share < 1 and not batch.cancelled):
            early = "validating" if share < 0.1 else "in_progress" if share < 0.9 else "finalizing"
            return {**batch.shown, **state, "status": "cancelling" if cancelling else early}
        if not batch.settled:
            expired = done < len(batch.lines) and not batch.cancelled
            batch.settled = self._settle(batch, done, script.seed, "expired" if expired else "completed")
        return {**batch.shown, **state, **batch.settled}

    def _settle(self, batch: _Batch, done: int, seed: int, end: str) -> dict[str, Json]:
        """`end`: how it ends where it was not cancelled."""
        name, end = batch.shown["id"], "cancelled" if batch.cancelled else end
        lines, unasked = batch.lines[:done], batch.lines[done:]
        good: list[str] = []
        bad: list[str] = []
        for number, (custom_id, call) in enumerate(lines):
            reply = self._answer(call)
            response = {"status_code": reply.status, "request_id": f"req_{number}", "body": json.loads(reply.body)}
            row = {"id": f"batch_req_{number}", "custom_id": custom_id, "response": response, "error": None}
            (good if reply.status == 200 else bad).append(json.dumps(row))
        why = {"code": f"batch_{end}", "message": f"This batch {end} before the request was asked."}
        bad += [json.dumps({"custom_id": custom_id, "response": None, "error": why}) for custom_id, _ in unasked]
        random.Random(f"{seed}/{name}").shuffle(good)  # noqa: S311 - nothing secret
        files = {
            key: self._keep("".join(row + "\n" for row in rows).encode(), f"{name}_{key}.jsonl", "batch_output").shown[
                "id"
            ]
            for key, rows in (("output", good), ("error", bad))
            if rows
        }
        now = int(time.time())
        return {
            "status": end,
            f"{end}_at": now,
            "output_file_id": files.get("output"),
            "error_file_id": files.get("error"),
            "request_counts": {"total": len(batch.lines), "completed": len(good), "failed": len(lines) - len(good)},
        }


def _read(content: bytes, endpoint: str) -> tuple[list[tuple[str, Mapping[str, Any]]], list[Json]]:
    """The requests of an input file, and what is wrong with it."""
    lines, errors, seen = [], [], set()
    for number, text in enumerate(content.splitlines(), 1):
        try:
            row = json.loads(text)
            name, asked = str(row["custom_id"]), row["body"]
            fits = row.get("method") == "POST" and row.get("url") == endpoint and isinstance(asked, dict)
        except (ValueError, KeyError, TypeError):
            errors.append(_error("invalid_json_line", "This line is not parseable as valid JSON.", number))
            continue
        if name in seen:
            errors.append(_error("duplicate_custom_id", f"The custom_id '{name}' stands twice.", number))
        elif not fits:
            errors.append(_error("mismatched_url", f"Each line has to be a POST to {endpoint} with a body.", number))
        seen.add(name)
        lines.append((name, asked))
    if not lines and not errors:
        errors.append(_error("empty_file", "The input file is empty.", None))
    return lines, errors


def _error(code: str, message: str, line: int | None) -> Json:
    return {"code": code, "message": message, "line": line, "param": None}


def _page(rows: list[dict[str, Json]], request: web.Request) -> Reply:
    """The rows after `after`, at most `limit`."""
    after, most = request.query.get("after"), int(request.query.get("limit", _PAGE))
    ids = [row["id"] for row in rows]
    start = ids.index(after) + 1 if after in ids else 0
    page = rows[start : start + most]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return whole({"object": "list", "data": page, "has_more": start + most < len(rows), **ends})
