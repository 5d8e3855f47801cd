"""The HTTP server: an event loop in a thread of its own, on 127.0.0.1 only."""

from __future__ import annotations

import asyncio
import errno
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from aiohttp import web

from workbench.errors import UseError
from workbench.loopback import shapes
from workbench.loopback.answers import BadCallError, digest_of, question_in
from workbench.loopback.batches import Batches
from workbench.loopback.books import Books, Call
from workbench.loopback.faults import Chance, send
from workbench.loopback.limits import Gate
from workbench.loopback.replies import CHAT, EMBEDDINGS, RESPONSES, Reply, faulty, no_key, refused, reply_to, whole
from workbench.loopback.script import Fault, Script, drawn
from workbench.records import Json

HOST = "127.0.0.1"
_PREFIXES = ("/v1", "/openai/v1", "/openai/deployments/{deployment}")
"""OpenAI's, and Azure's new and old."""
_LARGEST = 256 << 20
"""Bytes of a body: as much as OpenAI takes for a file of a batch."""
_BACKLOG = 2048
_INSTEAD = ("status", "redirect", "body")
"""Faults that come before anything is done; after the others a file or a batch is there, and its answer lost."""
Act = Callable[[web.Request, Script], Awaitable[Reply]]


class Server:
    """A running server: its address, its script, and what it has seen."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.books = Books()
        self.url = ""
        """What a client takes as `base_url`."""
        self._gate, self._chance = Gate(script.limits), Chance(script.seed, script.faults)
        self._batches = Batches(self._noted, self._answered)

    @property
    def calls(self) -> Counter[str]:
        """How often each text was asked; calls of files and batches as `POST /batches`."""
        return self.books.calls

    def count(self, text: str) -> int:
        return self.books.calls[text]

    def use(self, **changes: Any) -> None:
        """Changes the script from now on; limits and faults that change begin anew."""
        script = replace(self.script, **changes)
        if "limits" in changes:
            self._gate = Gate(script.limits)
        if "faults" in changes:
            self._chance = Chance(script.seed, script.faults)
        self.script = script

    def application(self) -> web.Application:
        app = web.Application(client_max_size=_LARGEST)
        batches = self._batches
        acts: tuple[tuple[str, str, Act], ...] = (
            ("GET", "/models", self._models),
            ("GET", "/models/{id:.+}", self._model_card),
            ("POST", "/files", batches.upload),
            ("GET", "/files", batches.list_files),
            ("GET", "/files/{id}", batches.file),
            ("GET", "/files/{id}/content", batches.content),
            ("DELETE", "/files/{id}", batches.delete),
            ("POST", "/batches", batches.create),
            ("GET", "/batches", batches.list_batches),
            ("GET", "/batches/{id}", batches.batch),
            ("POST", "/batches/{id}/cancel", batches.cancel),
        )
        for prefix in _PREFIXES:
            for path in (CHAT, RESPONSES, EMBEDDINGS):
                app.router.add_post(prefix + path, self._model(path))
            for method, path, act in acts:
                app.router.add_route(method, prefix + path, self._other(path, act))
        app.router.add_get("/_calls", self._told)
        return app

    def _model(self, path: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler of an endpoint that a model answers."""

        async def handle(request: web.Request) -> web.StreamResponse:
            raw = await request.read()
            call = self._note(request, path, _read(raw, request.match_info.get("deployment")), raw)
            if reply := self._keyless(call):
                return await self._refuse(request, call, reply)
            reply = reply_to(self.script, call)
            refusal = self._gate.enter(reply.tokens, self.books.busy) if reply.status == 200 else None
            if refusal:
                reply = refused(call, refusal)
                return await self._refuse(request, call, _with(reply, self._gate.headers()))
            fault = self._chance.pick(call)
            if fault:
                reply = faulty(fault, call, reply, request.path_qs)
            return await self._serve(request, call, _with(reply, self._gate.headers()), fault)

        return handle

    def _other(self, path: str, act: Act) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler of an endpoint that needs no model."""

        async def handle(request: web.Request) -> web.StreamResponse:
            call = self._note(request, path, {}, f"{request.method} {request.path}".encode())
            if reply := self._keyless(call):
                return await self._refuse(request, call, reply)
            fault = self._chance.pick(call)
            if fault is None or fault.kind not in _INSTEAD:
                reply = await _acted(act, request, self.script)
            reply = faulty(fault, call, reply or whole({}), request.path_qs) if fault else reply
            return await self._serve(request, call, reply or whole({}), fault)

        return handle

    def _note(self, request: web.Request, path: str, body: Mapping[str, Any], raw: bytes) -> Call:
        headers = {name.lower(): value for name, value in request.headers.items()}
        text = question_in(body) if body else f"{request.method} {path}"
        call = Call(path, body, headers, text, digest_of(path, raw))
        self.books.note(call)
        return call

    def _noted(self, path: str, body: Mapping[str, Any]) -> Call:
        """One line of a batch."""
        call = Call(path, body, {}, question_in(body), digest_of(path, json.dumps(body, sort_keys=True).encode()))
        self.books.note(call)
        return call

    def _answered(self, call: Call) -> Reply:
        reply, fault = reply_to(self.script, call), self._chance.pick(call)
        if fault and fault.kind == "status":
            reply = faulty(fault, call, reply, "")
        self.books.close(call, reply.status, whole=True)
        return reply

    def _keyless(self, call: Call) -> Reply | None:
        """A 401 for a call without the key, which stands where OpenAI or where Azure wants it."""
        sent = call.headers.get("authorization", "").removeprefix("Bearer ") or call.headers.get("api-key", "")
        return None if self.script.key in (None, sent) else no_key(sent)

    async def _refuse(self, request: web.Request, call: Call, reply: Reply) -> web.StreamResponse:
        self.books.close(call, reply.status, whole=True)
        return await send(request, reply, None, 0)

    async def _serve(self, request: web.Request, call: Call, reply: Reply, fault: Fault | None) -> web.StreamResponse:
        """Answers after the call's latency."""
        self.books.begin()
        sent = False
        latency = self.script.latency
        try:
            seconds = latency.drawn(drawn(self.script.seed, "latency", call.digest, call.time))
            if seconds:
                await asyncio.sleep(seconds)
            response = await send(request, reply, fault, latency.between_pieces)
            sent = fault is None or fault.kind in ("stall", "drip")
            return response
        finally:
            self.books.end(call, reply.status, sent)

    async def _models(self, _: web.Request, script: Script) -> Reply:
        return whole(shapes.models(script.models or ("loopback",)))

    async def _model_card(self, request: web.Request, script: Script) -> Reply:
        name = request.match_info["id"]
        if script.models and name not in script.models:
            raise BadCallError(f"The model '{name}' does not exist", "model", "model_not_found", 404)
        return whole(shapes.models([name])["data"][0])

    async def _told(self, request: web.Request) -> web.StreamResponse:
        """The counts, for another process; `?text=…` of one text, `?texts` of all."""
        if "text" in request.query:
            return web.json_response({"count": self.count(request.query["text"])})
        texts = {"texts": dict(self.calls)} if "texts" in request.query else {}
        return web.json_response(self.books.summary() | texts)


@contextmanager
def serve(script: Script | None = None, port: int = 0) -> Iterator[Server]:
    """Serves until the block ends; port 0 takes a free one. Raises UseError where the port can't be had."""
    server = Server(script or Script())
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="loopback", daemon=True)
    thread.start()
    try:
        runner = asyncio.run_coroutine_threadsafe(_start(server, port), loop).result(30)
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(_stop(runner), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(server: Server, port: int) -> web.AppRunner:
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, HOST, port, backlog=_BACKLOG)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        why = "is already in use" if error.errno == errno.EADDRINUSE else f"can't be had ({error.strerror})"
        raise UseError(f"port {port} {why}; choose another with --port, or none for a free one") from error
    server.url = f"http://{HOST}:{runner.addresses[0][1]}/v1"
    return runner


async def _stop(runner: web.AppRunner) -> None:
    """Ends what is under way; a client sees its connection close."""
    await runner.cleanup()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def _acted(act: Act, request: web.Request, script: Script) -> Reply:
    try:
        return await act(request, script)
    except BadCallError as problem:
        body = shapes.error(problem.message, "invalid_request_error", problem.code, problem.param)
        return whole(body, status=problem.status)
    except ValueError:  # a body that is no JSON
        return whole(shapes.error("We could not parse the body of your request.", "invalid_request_error"), status=400)


def _read(raw: bytes, deployment: str | None) -> Mapping[str, Json]:
    """A call's body; of a wrong one nothing is left, so that it lacks all that is required."""
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    if not isinstance(body, dict):
        return {}
    return {"model": deployment, **body} if deployment else body


def _with(reply: Reply, headers: Mapping[str, str]) -> Reply:
    return replace(reply, headers={**headers, **reply.headers}) if headers else reply
