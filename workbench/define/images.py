"""Images in a chat history: files of the project become data URLs, so that a request holds all that is asked.

    messages:
      - role: user
        content: [{type: text, text: What is this?}, {type: image, image: photos/cat.png}]

What kind of image a file holds is told by its first bytes, never by its name.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from workbench.define.project import Project
from workbench.errors import UseError
from workbench.records import Json

LARGEST = 20_000_000
"""Bytes of one file: what hosted models take at most (https://platform.openai.com/docs/guides/images)."""
_KINDS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("image/png", lambda head: head.startswith(b"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", lambda head: head.startswith(b"\xff\xd8\xff")),
    ("image/gif", lambda head: head.startswith((b"GIF87a", b"GIF89a"))),
    ("image/webp", lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP"),
)
"""Signatures: PNG specification 5.2; JPEG, ITU T.81 B.1.1; GIF89a 17; WebP, RFC 9649 2.4."""


def inline_images(message: Json, project: Project) -> Json:
    """A message in JSON form with its images as URLs: data URLs and https stay, other texts are files of the
    project; `{type: image_url, image_url: {url}}`, as OpenAI writes it, is understood, too.

    Raises UseError, without a place, for what is no image.
    """
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    return {**message, "content": [_part(part, project) for part in content]}


def _part(part: Json, project: Project) -> Json:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return part
    given = part.get("image") if kind == "image" else part["image_url"]["url"] if kind == "image_url" else None
    if not isinstance(given, str):
        raise UseError("a part of a message must be {type: text, text: …} or {type: image, image: FILE}")
    return {"type": "image", "image": given if given.startswith(("data:image/", "https://")) else _url(given, project)}


def _url(file: str, project: Project) -> str:
    path = project.path(file)
    if (size := path.stat().st_size) > LARGEST:
        raise UseError(f"the image '{file}' has {size:,} bytes; at most {LARGEST:,} can be sent, make it smaller")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UseError(f"the image '{file}' can't be read: {error.strerror}") from error
    kind = next((name for name, fits in _KINDS if fits(raw[:16])), None)
    if kind is None:
        raise UseError(f"'{file}' is no PNG, JPEG, GIF or WebP image; convert it")
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"
