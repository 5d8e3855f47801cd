"""What went wrong with a call, from its status, its headers or its exception, and what can be done.

Retry-After: RFC 9110, 10.2.3. `retry-after-ms` and the x-ratelimit headers: OpenAI's rate limit guide.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from workbench.engines.openai.limiter import Quota
from workbench.engines.openai.wire import parse

Effect = Literal["crowded", "faulty", "none"]
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"\d+(\.\d+)?")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_TOO_LONG = ("context_length_exceeded", "available context size", "maximum context length", "Input is too long")
_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")


@dataclass(eq=False)
class Trouble(Exception):
    """A call without an answer."""

    kind: str
    """As `records.Failure.kind`."""
    message: str
    again: bool = False
    """Another try can help."""
    effect: Effect = "none"
    """What it tells of the limit: refused for the rate, a fault of the server or the way to it, nothing."""
    wait: float | None = None
    """Seconds that the server asks to wait."""
    stops: bool = False
    """No other request would be answered either."""
    unreachable: bool = False
    """No connection came about."""
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    """What the refusal told of limits."""

    @property
    def maybe_paid(self) -> bool:
        """The host may have answered, and count it: what it said did not come, or was no answer."""
        return self.kind in ("timeout", "connection", "bad_answer") and not self.unreachable


def of_status(status: int, headers: Mapping[str, str], text: str, answered: bool) -> Trouble:
    """The trouble behind an HTTP status; `answered`: other calls of this run got answers."""
    wait, text = retry_after(headers), text or f"status {status} without a word"
    if 300 <= status < 400:
        place = headers.get("location", "elsewhere")
        return Trouble("refused", f"redirects to {place}; set `base_url` to where it moved", stops=True)
    if status == 401:
        return Trouble("auth", text, stops=True)
    if status == 403:  # before any answer: no right to the model; later: no right to ask just this
        return Trouble("auth", text, stops=not answered)
    if status == 404:
        return Trouble("no_model", text, stops=True)
    if status == 429:
        if any(sign in text for sign in _NO_MONEY):
            return Trouble("quota", text, stops=True)
        return Trouble("rate_limit", text, True, "crowded", wait, quotas=quotas(headers))
    if status in (408, 504):
        return Trouble("timeout", text, True, "faulty", wait)
    if status >= 500 or status == 409:
        return Trouble("server", text, True, "faulty", wait)
    too_long = any(sign in text for sign in _TOO_LONG)
    return Trouble("too_long" if too_long else "refused", text)


def of_error(error: BaseException, timeout: float) -> Trouble:
    """The trouble behind an exception of the client, of its transport or of the event loop.

    The transport reports a refused connection as a timeout, so the innermost causes decide.
    """
    import aiohttp

    for cause in _causes(error):
        if isinstance(cause, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)):
            message = f"the connection is not safe, its certificate can't be verified: {cause}"
            return Trouble("connection", message, stops=True, unreachable=True)
        if isinstance(cause, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
            return Trouble("connection", f"no connection: {cause}", True, "faulty", unreachable=True)
        if isinstance(cause, aiohttp.ServerTimeoutError):
            return Trouble("timeout", f"no answer within {timeout:g} s", True, "faulty")
    innermost = list(_causes(error))[-1]
    return Trouble("connection", f"the connection broke off: {innermost!r}", True, "faulty")


def error_text(raw: bytes) -> str:
    """The message of an error's body, with its code; else the start of the body."""
    try:
        data = parse(raw)
        error: Any = data.get("error", data)
        if isinstance(error, str):
            return error
        words = [str(error[key]) for key in ("message", "code") if error.get(key)]
        return " ".join(words) if len(words) < 2 else f"{words[0]} ({words[1]})"
    except (ValueError, AttributeError, TypeError, LookupError):
        return raw[:200].decode(errors="replace")


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the server asks to wait: milliseconds, seconds, or until a date; None: it does not say."""
    exact, text = (headers.get(name, "").strip() for name in ("retry-after-ms", "retry-after"))
    if _NUMBER.fullmatch(exact):
        return float(exact) / 1000
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def duration(text: str) -> float | None:
    """Seconds of a span such as `6m0s`, `1h2m`, `120ms`, `8.64s` or `59`; None where it is none."""
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(value) * _UNITS[unit] for value, unit in re.findall(r"([\d.]+)(ms|[smhd])", text))


def quotas(headers: Mapping[str, str]) -> dict[str, Quota]:
    """The limits in requests and tokens that the headers tell of, where they tell all of one."""
    found = {}
    for what in ("requests", "tokens"):
        if f"x-ratelimit-remaining-{what}" not in headers:
            continue
        reset = duration(headers.get(f"x-ratelimit-reset-{what}", ""))
        try:
            limit, remaining = (float(headers[f"x-ratelimit-{part}-{what}"]) for part in ("limit", "remaining"))
        except (KeyError, ValueError):
            continue
        if reset is not None and limit >= 1 and all(map(math.isfinite, (limit, remaining, reset))):
            found[what] = Quota(limit, min(max(remaining, 0.0), limit), reset)
    return found


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
