"""Nunjucks templates as Jinja: what both read in the same way passes, all else is refused by name.

Nunjucks is a port of Jinja (https://mozilla.github.io/nunjucks/templating.html); it differs where JavaScript shows.
"""

from __future__ import annotations

import json
import re

from workbench.define.roles import MARKER
from workbench.interop.report import Left
from workbench.records import Json

SAME_FILTERS = frozenset(
    ("abs", "capitalize", "default", "first", "float", "int", "join", "last", "length", "lower", "replace", "reverse",
     "round", "safe", "sort", "title", "trim", "upper")
)  # fmt: skip
TAGS = frozenset(("if", "elif", "else", "endif", "for", "endfor", "set"))
_TAG = re.compile(r"\{%-?\s*(\w+)(.*?)-?%\}|\{\{-?(.*?)-?\}\}|\{#.*?#\}", re.DOTALL)
_TEXT = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_FILTER = re.compile(r"\|\s*(\w+)")
_OURS = re.compile(r"\b(env|_conversation)\b")
_DUMPED = re.compile(r"\{\{-?\s*(\w+)\s*\|\s*dump\s*-?\}\}")
_HISTORY = re.compile(
    r"\{%-?\s*for (\w+) in (\w+)\s*-?%\}\s*\{%-?\s*for (\w+), (\w+) in \1\s*-?%\}\s*"
    r"\{\s*\"role\":\s*\"\{\{\s*\3\s*\}\}\",\s*\"content\":\s*(?:\{\{\s*\4\s*\|\s*dump\s*\}\}|\"\{\{\s*\4\s*\}\}\")\s*\},?\s*"
    r"\{%-?\s*endfor\s*-?%\}\s*\{%-?\s*endfor\s*-?%\}"
)
"""The way in which promptfoo's guide has a chat history filled into a JSON prompt."""
EARLIER = "earlier_turns"
"""The input that takes the place of `_conversation`: the user's turns before."""
_CONVERSATION = re.compile(
    r"\{%-?\s*for (\w+) in _conversation\s*-?%\}\s*"
    r"\{\s*\"role\":\s*\"user\",\s*\"content\":\s*"
    r"\"\{\{\s*\1\.prompt\[\1\.prompt\.length - 1\]\.content\s*\}\}\"\s*\},\s*"
    r"\{\s*\"role\":\s*\"assistant\",\s*\"content\":\s*\"\{\{\s*\1\.output\s*\}\}\"\s*\},?\s*"
    r"\{%-?\s*endfor\s*-?%\}"
)
"""The way in which it has the conversation so far filled in."""


def to_jinja(text: str) -> str:
    """The template, which Jinja reads as Nunjucks does; raises Left."""
    for found in _TAG.finditer(text):
        tag, rest, expression = found.groups()
        if tag is not None and tag not in TAGS:
            raise Left(f"the tag '{tag}' is not the same in Jinja")
        if tag == "for" and re.match(r"\s*\w+\s*,", rest):
            raise Left("a loop over keys and values is not the same in Jinja")
        _check_expression(_TEXT.sub("''", expression or rest or ""))
    return text


def _check_expression(code: str) -> None:
    if named := _OURS.search(code):
        raise Left(f"'{named[1]}' is filled by promptfoo while it runs")
    for name in _FILTER.findall(code):
        if name not in SAME_FILTERS:
            raise Left(f"the filter '{name}' is not the same in Jinja")
    if odd := re.search(r"===|!==|&&|\|\||\?|\.length\b|\.\w+\(", code):
        raise Left(f"'{odd[0]}' is JavaScript")


def text_prompt(text: str) -> str:
    """A prompt of plain text: one message of the user."""
    return "user:\n" + _escaped(to_jinja(text)) + "\n"


def chat_prompt(text: str) -> tuple[str, set[str]]:
    """A chat prompt in JSON as a body with role markers, and the variables in it that are chat histories."""
    histories: set[str] = set()

    def history(found: re.Match[str]) -> str:
        histories.add(found[2])
        return json.dumps({"history": found[2]}) + ","

    earlier = json.dumps({"history": EARLIER}) + ","
    if _CONVERSATION.search(text):
        histories.add(EARLIER)
    text = _CONVERSATION.sub(earlier, text)
    plain = _DUMPED.sub(lambda found: json.dumps("{{ %s }}" % found[1]), _HISTORY.sub(history, text))  # noqa: UP031
    plain = re.sub(r",(\s*\])", r"\1", plain)
    try:
        messages = json.loads(plain)
    except (ValueError, RecursionError) as error:
        to_jinja(text)
        raise Left("a chat prompt whose JSON is made by a template") from error
    return chat_body(messages), histories


def last_turn(text: str) -> str:
    """The template of a chat prompt's last message, which has to be the user's; raises Left."""
    messages = json.loads(re.sub(r",(\s*\])", r"\1", _CONVERSATION.sub("", text)))
    if messages[-1].get("role") != "user":
        raise Left("'_conversation' in a prompt that does not end with the user's words")
    return to_jinja(messages[-1]["content"])


def chat_body(messages: Json) -> str:
    """Messages as a body; raises Left for what is more than text."""
    if not isinstance(messages, list) or not messages:
        raise Left("a chat prompt that is no list of messages")
    parts = []
    for message in messages:
        if isinstance(message, dict) and set(message) == {"history"}:
            parts.append("{{ %s }}\n" % message["history"])  # noqa: UP031
            continue
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise Left("a message that is not text")
        if message.get("role") not in ("system", "user", "assistant", "developer") or len(message) > 2:
            raise Left(f"a message of the role '{message.get('role')}' or with further keys")
        parts.append(f"{message['role']}:\n{_escaped(to_jinja(message['content']))}\n")
    return "\n".join(parts)


def _escaped(text: str) -> str:
    """With lines that would be taken for role markers as expressions that give the same text."""
    return MARKER.sub(lambda found: "{{ " + json.dumps(found[0], ensure_ascii=False) + " }}", text)
