"""Which calls a fault befalls, and answers that are slow, cut or torn."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from aiohttp import web

from workbench.loopback.books import Call
from workbench.loopback.replies import Reply
from workbench.loopback.script import Fault, drawn

_DRIPS = 20


@dataclass(slots=True)
class Chance:
    """Picks a call's fault; knows how often each has had a chance and happened."""

    seed: int
    faults: tuple[Fault, ...]
    _seen: Counter[int] = field(default_factory=Counter)
    _done: Counter[int] = field(default_factory=Counter)

    def pick(self, call: Call) -> Fault | None:
        for number, fault in enumerate(self.faults):
            if fault.match and not re.search(fault.match, call.text):
                continue
            self._seen[number] += 1
            if fault.calls and self._seen[number] not in fault.calls:
                continue
            if fault.times is not None and self._done[number] >= fault.times:
                continue
            if fault.share < 1 and drawn(self.seed, "fault", number, call.digest, call.time) >= fault.share:
                continue
            self._done[number] += 1
            return fault
        return None


async def send(request: web.Request, reply: Reply, fault: Fault | None, between: float) -> web.StreamResponse:
    """Sends a reply; a stream takes `between` seconds from one piece to the next."""
    kind = fault.kind if fault else ""
    if kind == "reset" and not reply.stream:
        _tear(request)
        return web.Response()  # goes nowhere
    content_type = "text/event-stream" if reply.stream else "application/json"
    breaks = kind in ("reset", "cut", "stall", "drip")
    if not breaks and not (reply.stream and between):
        return web.Response(
            body=reply.body, status=reply.status, headers=dict(reply.headers), content_type=content_type
        )
    response = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
    response.content_type = content_type
    if not reply.stream:
        response.content_length = len(reply.body)
    await response.prepare(request)
    for wait, piece in _timed(reply, fault, between):
        await asyncio.sleep(wait)
        await response.write(piece)
    if kind == "reset":
        _tear(request)
    elif kind == "cut" and request.transport:
        request.transport.close()
    else:
        await response.write_eof()
    return response


def _timed(reply: Reply, fault: Fault | None, between: float) -> Iterator[tuple[float, bytes]]:
    """Seconds to wait, and what to send then."""
    kind, seconds = (fault.kind, fault.seconds) if fault else ("", 0.0)
    pieces = list(reply.pieces) if reply.stream else _parts(reply.body)
    for number, piece in enumerate(pieces):
        if number * 2 >= len(pieces) and kind in ("reset", "cut"):
            return
        wait = between if reply.stream and number else 0.0
        if kind == "drip":
            wait = seconds / len(pieces)
        elif kind == "stall" and number == len(pieces) // 2:
            wait = seconds
        yield wait, piece


def _parts(body: bytes) -> list[bytes]:
    size = -(-len(body) // _DRIPS) or 1
    return [body[start : start + size] for start in range(0, len(body), size)]


def _tear(request: web.Request) -> None:
    """Ends the connection with a reset (RST) instead of a proper end."""
    if request.transport is None:
        return
    held: socket.socket = request.transport.get_extra_info("socket")
    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
