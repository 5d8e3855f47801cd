"""Addresses and keys. A key comes from the environment, goes to the one address it is for, and is never told.

The key of OpenAI goes to no other address that the project names, unless the project names the variable.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from workbench.engines.openai.hosts import OPENAI
from workbench.errors import ModelError
from workbench.records import Model

LONGEST = 400
"""Characters of a server's own words that are worth keeping."""
_SHOWN = "[key]"


@dataclass(frozen=True, slots=True)
class Key:
    """A secret that no representation shows."""

    value: str = field(repr=False)
    """Empty: no key is sent."""
    variable: str | None
    """The environment variable that it came from."""

    def hide(self, text: str) -> str:
        return text.replace(self.value, _SHOWN) if self.value else text

    def hide_bytes(self, raw: bytes) -> bytes:
        """Also where JSON writes some of its characters as escapes."""
        secret = self.value.encode()
        if secret and (b"\\u00" in raw or b"\\/" in raw) and secret in (plain := _ESCAPE.sub(_plain, raw)):
            raw = plain
        return raw.replace(secret, _SHOWN.encode()) if secret and secret in raw else raw

    def line(self, text: str) -> str:
        """A server's words as one line without the key, not too long, that any file can hold."""
        line = self.hide(" ".join(text.split())).encode(errors="replace").decode()
        return line if len(line) <= LONGEST else line[:LONGEST] + "…"


_ESCAPE = re.compile(rb"\\(?:u00([2-7][0-9a-fA-F])|.)", re.DOTALL)


def _plain(escape: re.Match[bytes]) -> bytes:
    """The character of an escape that JSON does not need."""
    letter = bytes.fromhex(escape[1].decode()) if escape[1] else escape[0][1:]
    needless = letter not in b'"\\\x7f' if escape[1] else letter == b"/"
    return letter if needless else escape[0]


def address(model: Model) -> str:
    """Where the model is asked, without a slash at its end; raises ModelError for what is no plain address.

    A deployment of Azure that is named by its host alone gets its path.
    """
    text = str(model.settings.get("base_url") or os.environ.get("OPENAI_BASE_URL") or OPENAI).rstrip("/")
    place = urlsplit(text)
    who = f"model '{model.alias}'"
    if "@" in place.netloc or place.query:
        raise ModelError(
            f"{who}: base_url holds a password or a query, where keys would be kept and shown; name the "
            "environment variable with api_key_env, and the API's version with api_version"
        )
    if place.scheme not in ("http", "https") or not place.hostname:
        raise ModelError(f"{who}: base_url has to look like http://127.0.0.1:8000/v1")
    if model.settings.get("api_version") and not place.path:
        return f"{text}/openai/deployments/{model.settings.get('model')}"
    return text


def read_key(model: Model) -> Key:
    """The model's key; raises ModelError where its variable is not set."""
    if "base_url" in model.settings and "api_key_env" not in model.settings:
        return Key("", None)
    variable = str(model.settings.get("api_key_env", "OPENAI_API_KEY"))
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ModelError(f"model '{model.alias}' needs a key: set the environment variable {variable}")
    return Key(value, variable)
