"""The door of an app that other machines can reach: who gives the token gets a cookie, and a reload asks no more.

The cookie holds no token, only when it ends and a seal on that by a secret of this process: it ends with the process
too, which draws another token. Scripts can't read it (HttpOnly), and no other site's page can have it sent
(SameSite=Strict); Streamlit's own XSRF protection is not touched.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode

import streamlit as st
from starlette.requests import Request
from starlette.responses import RedirectResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

TOKEN = "WORKBENCH_TOKEN"  # noqa: S105 - the name of the variable
"""Environment variable with the token that an address other than this machine's asks for."""
COOKIE_SECONDS = 7 * 24 * 3600
MOST_FORM_BYTES = 4096

at_work = False
"""Whether this process serves the app behind the door; not where Streamlit was started by hand."""
_secret = secrets.token_bytes(32)


def same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def cookie_name() -> str:
    """With the port: a browser sends one host's cookies to all of its ports."""
    return f"workbench_{st.get_option('server.port')}"


def sealed_cookie(now: float) -> str:
    """A cookie that is good from `now`, in seconds since 1970, for `COOKIE_SECONDS`."""
    ends = str(int(now) + COOKIE_SECONDS)
    return f"{ends}.{_seal(ends)}"


def good_cookie(value: str, now: float) -> bool:
    """Whether this process sealed it and it has not ended."""
    ends, _, seal = value.partition(".")
    sealed = re.fullmatch("[0-9]{1,12}", ends) is not None and hmac.compare_digest(seal.encode(), _seal(ends).encode())
    return sealed and now < int(ends)


def _seal(ends: str) -> str:
    return hmac.new(_secret, ends.encode(), hashlib.sha256).hexdigest()


class TokenToCookie:
    """ASGI middleware: a page asked for with `?token=…`, or a form sent with it, is answered with the cookie, and
    with the way to the same page without the token; all else goes on to Streamlit, whose pages ask `may_show`."""

    def __init__(self, app: ASGIApp) -> None:
        global at_work
        self._app, at_work = app, True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = await self._given(Request(scope, receive)) if scope["type"] == "http" else None
        if given is None:
            await self._app(scope, receive, send)
            return
        rest = [pair for pair in _query(scope) if pair[0] != "token"]
        right = same(given, os.environ.get(TOKEN) or secrets.token_hex())
        rest += [] if right else [("token", "wrong")]
        # One slash at the front and the rest quoted: `//host` or `/\\host` would lead to another host.
        place = quote("/" + str(scope["path"]).lstrip("/")) + ("?" + urlencode(rest) if rest else "")
        answer = RedirectResponse(place, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
        if right:
            answer.set_cookie(
                cookie_name(), sealed_cookie(time.time()), COOKIE_SECONDS, path="/", httponly=True, samesite="strict",
                secure=scope["scheme"] == "https",
            )  # fmt: skip
        await answer(scope, receive, send)

    async def _given(self, request: Request) -> str | None:
        """The token that came with a request; None where none came, or it is the mark of a wrong one."""
        if request.method == "GET":
            return next((v for n, v in _query(request.scope) if n == "token" and v != "wrong"), None)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method != "POST" or kind != "application/x-www-form-urlencoded":
            return None
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MOST_FORM_BYTES:
                return ""
        return dict(parse_qsl(body.decode("latin-1"))).get("token", "")


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
