"""Role markers: how a template's text becomes messages, and why a value can't make one.

A marker is `system:`, `user:`, `assistant:`, `tool:` or `developer:` on a line of its own in the *source*
(Prompty's specification, 2.10 and 6.2: any case, indented or after `#`). Before rendering each is replaced by
a mark in characters that no value may hold (`budget.RESERVED`), and the rendered text is split at these marks
only. So text from a case that reads `system:` stays text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from workbench.define.budget import RESERVED
from workbench.errors import PromptError
from workbench.records import Message

OPEN, CLOSE = RESERVED[0], RESERVED[1]
ROLES = ("system", "user", "assistant", "tool", "developer")
MARKER = re.compile(
    r"^[ \t]*#?[ \t]*(?P<role>system|user|assistant|tool|developer|function)"
    r"(?P<attributes>\[[^\]\n]*\])?[ \t]*:[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_MARK = re.compile(f"{OPEN}(role|thread) ([^{CLOSE}]*){CLOSE}")


def mark_roles(source: str) -> str:
    """The source with its markers replaced; it keeps its lines. `check_markers` has passed."""
    return MARKER.sub(lambda found: f"{OPEN}role {found['role'].lower()}{CLOSE}", source)


def check_markers(source: str, path: str | None, line_offset: int = 0) -> None:
    """Raises PromptError for a marker that is not supported, or a reserved character."""
    for found in MARKER.finditer(source):
        line = source.count("\n", 0, found.end()) + 1 + line_offset
        if found["attributes"]:
            raise PromptError(
                f"attributes of a role, {found['attributes']}, are not supported; remove them", path, line
            )
        if found["role"].lower() == "function":
            raise PromptError("the role 'function' is not supported; use 'tool'", path, line)
    reserved = re.search(f"[{RESERVED}]", source)
    if reserved:
        line = source.count("\n", 0, reserved.start()) + 1 + line_offset
        raise PromptError("U+FDD0 and U+FDD1 are reserved for marking messages; remove them", path, line)


def thread_token(name: str) -> str:
    """What stands for the conversation of that input until the text is split."""
    return f"{OPEN}thread {name}{CLOSE}"


def split_messages(rendered: str, threads: Mapping[str, Sequence[Message]]) -> tuple[Message, ...]:
    """The messages of a rendered text.

    Text before the first marker is a system message; a marker without text is an empty message; around a
    thread text is a message only where there is some (specification, 6.4 and 6.7). Blank lines at the ends of
    a message are removed, nothing else.
    """
    messages: list[Message] = []
    role, marked, position = "system", False, 0
    for found in (*_MARK.finditer(rendered), None):
        text = trim_blank_lines(rendered[position : found.start() if found else len(rendered)])
        is_role = found is None or found[1] == "role"
        if text or (marked and is_role):
            messages.append(Message.of(role, text))
        marked = False
        if found is not None:
            position = found.end()
            if is_role:
                role, marked = "system" if found[2] == "developer" else found[2], True
            else:
                messages.extend(threads[found[2]])
    return tuple(messages)


def trim_blank_lines(text: str) -> str:
    """Without blank lines at its start and end."""
    lines = text.split("\n")
    filled = [i for i, line in enumerate(lines) if line.strip()]
    return "\n".join(lines[filled[0] : filled[-1] + 1]) if filled else ""
