"""Plain text as part of a prompt's body: what Jinja or a role marker would make of it is written as an expression."""

from __future__ import annotations

import json
import re

from workbench.define.roles import MARKER

_OPENING = re.compile(r"\{(?=[{%#]|\Z)|\r\n?")
"""What opens a tag, also together with what may follow the text; and line ends that a prompt's file does not keep."""


def literal(text: str) -> str:
    """A template that renders to exactly this text, wherever in a body it stands."""
    return unmarked(_OPENING.sub(lambda found: expression(found[0]), text))


def unmarked(template: str) -> str:
    """The template with its lines that read like role markers as text."""
    return MARKER.sub(lambda found: expression(found[0]), template)


def expression(text: str) -> str:
    """The text as a constant inside an expression."""
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}"
