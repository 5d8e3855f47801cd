"""Handlebars templates of dotprompt as bodies with role markers and Jinja: what means the same passes, all else is
refused by name.

Handlebars (https://handlebarsjs.com/guide/) without escaping, with the helpers of dotprompt
(https://google.github.io/dotprompt/reference/template). A block tag that stands alone on its line takes the line with
it; a name inside `#each` is looked up in the item only. Both are settled here, so that Jinja gives the same text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from workbench.define.roles import MARKER
from workbench.interop.report import Left

ROLES = {"user": "user", "model": "assistant", "system": "system"}
HISTORY = "history"
RESERVED = {"loop", "not", "and", "or", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"}
_COMMENT = r"\{\{~?!(?:--.*?--|[^}]*?)~?\}\}"
_TAG = re.compile(r"(?<!\\)(\{\{\{)(.*?)\}\}\}|(?<!\\)\{\{(~?)(.*?)(~?)\}\}", re.DOTALL)
_ALONE = r"(?:(?<=\n)|\A)[ \t]*(%s)[ \t]*(?:\r?\n|\Z)"
_BLOCK = re.compile(_ALONE % r"\{\{\s*(?:[#/^].*?|else(?:\s.*?)?)\}\}")
_WORD = re.compile(r"\"[^\"]*\"|'[^']*'|[^\s=]+=|[^\s]+")
_PATH = re.compile(r"(?:this|(?:\.\./)*[A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)*|\.")
_SPECIAL = re.compile(MARKER.pattern + r"|\{(?=[{%#]|\Z)", MARKER.flags)
_DATA = {"@index": "loop.index0", "@first": "loop.first", "@last": "loop.last"}


@dataclass
class _Body:
    """A body in the making."""

    parts: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    """Names of the items of the `#each` blocks around, the innermost last."""
    open: list[str] = field(default_factory=list)
    """Blocks that are open, by helper."""
    history: bool = False
    marked: bool = True
    """Text here belongs to a message: a role came after the history."""
    names: set[str] = field(default_factory=set)
    """Variables of the case that it uses."""


def handlebars_body(template: str) -> tuple[str, set[str], bool]:
    """The body, the variables that it uses, and whether it has a place for the conversation so far; raises Left."""
    text = re.sub(_ALONE % _COMMENT, "", template, flags=re.DOTALL)
    text = re.sub(_COMMENT, "", text, flags=re.DOTALL)
    text = _BLOCK.sub(r"\1", text)
    body = _Body(["user:\n"] if not re.match(r"\s*\{\{\s*role\b", text) else [])
    at = 0
    for found in _TAG.finditer(text):
        _text(body, text[at : found.start()])
        at = found.end()
        if found[3] or found[5]:
            raise Left("whitespace control, {{~ … ~}}")
        _tag(body, (found[2] if found[1] else found[4]).strip())
    _text(body, text[at:])
    if body.open:
        raise Left(f"a block '{body.open[-1]}' that is not closed")
    return "".join(body.parts).lstrip("\n") + "\n", body.names, body.history


def _text(body: _Body, text: str) -> None:
    """Plain text; braces that Jinja would read, and lines that would be role markers, are written as values."""
    text = text.replace("\\{{", "{{")
    if text.strip() and not body.marked:
        raise Left("text after {{history}} without a role")

    def quoted(found: re.Match[str]) -> str:
        return "{{ " + json.dumps(found[0], ensure_ascii=False) + " }}"

    body.parts.append(_SPECIAL.sub(quoted, text))


def _tag(body: _Body, tag: str) -> None:
    words = _WORD.findall(tag)
    if not words:
        raise Left("an empty tag")
    head, given = words[0], words[1:]
    if head.startswith("#"):
        _open(body, head[1:] or (given.pop(0) if given else ""), given)
    elif head.startswith("/"):
        _close(body, head[1:] or "".join(given))
    elif head == "else":
        _else(body, given)
    elif head == "role":
        _role(body, given)
    elif head == "history" and not given:
        body.parts.append("\n{{ %s }}\n" % HISTORY)  # noqa: UP031
        body.history, body.marked = True, False
    elif given or head.startswith((">", "^", "&", "*")):
        raise Left(f"{{{{{_named(tag)}}}}}, which has no counterpart")
    else:
        body.parts.append("{{ %s }}" % _value(body, head))  # noqa: UP031


def _named(tag: str) -> str:
    """A tag as it is named in a message."""
    return " ".join(tag.split()[:2])


def _open(body: _Body, helper: str, given: list[str]) -> None:
    if helper in ("if", "unless") and len(given) == 1:
        body.parts.append("{% if " + ("not " if helper == "unless" else "") + _value(body, given[0]) + " %}")
    elif helper in ("ifEquals", "unlessEquals") and len(given) == 2:
        sign = "==" if helper == "ifEquals" else "!="
        body.parts.append("{%% if %s %s %s %%}" % (_value(body, given[0]), sign, _value(body, given[1])))  # noqa: UP031
    elif helper == "each" and len(given) == 1:
        values = _value(body, given[0])
        body.items.append(f"item{len(body.items) + 1}")
        body.parts.append("{%% for %s in %s or [] %%}" % (body.items[-1], values))  # noqa: UP031
    else:
        raise Left(f"the block {{{{#{' '.join([helper, *given])}}}}}, which has no counterpart")
    body.open.append(helper)


def _close(body: _Body, helper: str) -> None:
    if not body.open or body.open[-1] != helper:
        raise Left(f"{{{{/{helper}}}}} where no such block is open")
    body.open.pop()
    if helper == "each":
        body.items.pop()
    body.parts.append("{% endfor %}" if helper == "each" else "{% endif %}")


def _else(body: _Body, given: list[str]) -> None:
    if not body.open:
        raise Left("{{else}} outside a block")
    if not given:
        if body.open[-1] == "each":
            raise Left("{{else}} of {{#each}}: names would be looked up outside the item")
        body.parts.append("{% else %}")
    elif given[0] == "if" and len(given) == 2 and body.open[-1] != "each":
        body.parts.append("{% elif " + _value(body, given[1]) + " %}")
    else:
        raise Left(f"{{{{else {' '.join(given)}}}}}, which has no counterpart")


def _role(body: _Body, given: list[str]) -> None:
    name = given[0].strip("\"'") if len(given) == 1 and given[0][0] in "\"'" else ""
    if name not in ROLES:
        raise Left(f"a message of the role {' '.join(given)}")
    before = "".join(body.parts)
    body.parts.append(("" if before.endswith("\n") or not before else "\n") + f"{ROLES[name]}:\n")
    body.marked = True


def _value(body: _Body, word: str) -> str:
    """A path or a literal as an expression."""
    if re.fullmatch(r"\"[^\"]*\"|'[^']*'", word):
        return json.dumps(word[1:-1], ensure_ascii=False)
    if re.fullmatch(r"-?\d+(\.\d+)?|true|false", word):
        return word
    if word in _DATA and body.items:
        return _DATA[word]
    if not _PATH.fullmatch(word):
        raise Left(f"'{word}', which has no counterpart")
    up = word.count("../")
    if up > len(body.items):
        raise Left(f"'{word}', which leaves the case")
    steps = word.replace("../", "").split(".") if word != "." else ["this"]
    around = body.items[: len(body.items) - up]
    if steps[0] == "this":
        steps = steps[1:]
    if around:
        return around[-1] + "".join(f"[{json.dumps(step)}]" for step in steps)
    if not steps:
        raise Left("{{this}} outside {{#each}}")
    if steps[0] in RESERVED or (up == 0 and re.fullmatch(r"item\d+", steps[0])):
        raise Left(f"a variable of the name '{steps[0]}'")
    body.names.add(steps[0])
    return steps[0] + "".join(f"[{json.dumps(step)}]" for step in steps[1:])
