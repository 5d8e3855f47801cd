"""Prompts as LangChain writes them in JSON (`langchain_core.load.dumps`, or the older `prompt.save`), read and written.

The text is read as data: no class that it names is loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from workbench.define.roles import MARKER
from workbench.interop import promptfoo_files as files
from workbench.interop.nunjucks import chat_body, text_prompt
from workbench.interop.report import Left, Report
from workbench.records import Json, Prompt

ROLES = {"SystemMessagePromptTemplate": "system", "HumanMessagePromptTemplate": "user",
         "AIMessagePromptTemplate": "assistant", "SystemMessage": "system", "HumanMessage": "user",
         "AIMessage": "assistant"}  # fmt: skip
CLASSES = {"system": "SystemMessagePromptTemplate", "user": "HumanMessagePromptTemplate",
           "assistant": "AIMessagePromptTemplate", "developer": "SystemMessagePromptTemplate"}  # fmt: skip
_PIECE = re.compile(r"\{\{|\}\}|\{(\w*)([^{}]*)\}|[{}]")


def import_langchain(path: Path) -> Report:
    """The prompt of a file; the report tells why where it is refused."""
    report = Report(str(path))
    name = re.sub(r"[^\w.-]+", "-", path.stem).strip("-.") or "imported"
    try:
        data = files.parse(files.read(path), "prompt.json")
        front, body = _read(data)
        report.files[f"prompts/{name}.prompty"] = front + body
        report.add("prompt", "carried")
    except Left as why:
        report.add("prompt", "left", str(why))
    except (LookupError, TypeError, AttributeError) as error:
        report.add("prompt", "left", f"it is no prompt of LangChain: {error}")
    return report


def _read(data: Json) -> tuple[str, str]:
    """(front matter, body) of a prompt."""
    kind, given = _kind(data)
    if given.get("partial_variables"):
        raise Left("variables that are filled already")
    if kind in ("PromptTemplate", "prompt"):
        return "", text_prompt(_template(given))
    if kind not in ("ChatPromptTemplate", "chat"):
        raise Left(f"a prompt of the class '{kind}'")
    messages: list[dict[str, str]] = []
    histories: list[str] = []
    for entry in given["messages"]:
        inner, fields = _kind(entry)
        if inner == "MessagesPlaceholder":
            histories.append(str(fields["variable_name"]))
            messages.append({"history": histories[-1]})
        elif inner in ("SystemMessage", "HumanMessage", "AIMessage"):
            messages.append({"role": ROLES[inner], "content": _fixed(str(fields["content"]))})
        elif inner in ROLES:
            messages.append({"role": ROLES[inner], "content": _template(_kind(fields["prompt"])[1])})
        else:
            raise Left(f"a message of the class '{inner}'")
    if not histories:
        return "", chat_body(messages)
    kinds = dict.fromkeys(given.get("input_variables") or (), "any") | dict.fromkeys(histories, "thread")
    lines = "".join(f"- {{name: {name}, kind: {kind}}}\n" for name, kind in kinds.items() if name.isidentifier())
    return f"---\ninputs:\n{lines}---\n", chat_body(messages)


def _kind(data: Json) -> tuple[str, Mapping[str, Json]]:
    if "_type" in data:
        return str(data["_type"]), data
    if data.get("type") != "constructor":
        raise Left("what is no constructor of a prompt")
    return str(data["id"][-1]), data["kwargs"]


def _template(given: Mapping[str, Json]) -> str:
    """The template in Jinja."""
    text, form = str(given["template"]), given.get("template_format", "f-string")
    if form == "f-string":
        return _PIECE.sub(_piece, text)
    if form == "jinja2" or (form == "mustache" and not re.search(r"\{\{\s*[#^/>&{!]", text)):
        return text
    raise Left(f"a template in '{form}' with more than variables")


def _piece(found: re.Match[str]) -> str:
    if found[0] in ("{{", "}}"):
        return '{{ "%s" }}' % found[0][0]  # noqa: UP031
    if not found[1] or found[2]:
        raise Left(f"the field '{found[0]}' of a template")
    return "{{ %s }}" % found[1]  # noqa: UP031


def _fixed(text: str) -> str:
    if "{{" in text or "{%" in text or "{#" in text:
        raise Left("a fixed message that holds braces")
    return text


def to_langchain(prompt: Prompt) -> str:
    """The prompt as `langchain_core.load.dumps` writes one, its templates as f-strings; raises Left for what LangChain
    would not render in the same way."""
    if prompt.partials or prompt.raw:
        raise Left("a prompt with partials" if prompt.partials else "a prompt without roles")
    parts = MARKER.split(prompt.template)
    names = [i.name for i in prompt.inputs if i.type == "thread"]
    if any(re.search(r"\{\{-?\s*%s\b" % re.escape(name), prompt.template) for name in names):  # noqa: UP031
        raise Left("a prompt with a conversation as input")
    messages = []
    head, *rest = parts
    pairs = ([("system", head)] if head.strip() else []) + list(zip(rest[0::3], rest[2::3], strict=True))
    for role, text in pairs:
        if role.lower() not in CLASSES:
            raise Left(f"a message of the role '{role}'")
        inner = _constructor("prompts", "prompt", "PromptTemplate", _fields(text.strip("\n")))
        messages.append(_constructor("prompts", "chat", CLASSES[role.lower()], {"prompt": inner}))
    variables = sorted({v for m in messages for v in m["kwargs"]["prompt"]["kwargs"]["input_variables"]})
    whole = _constructor("prompts", "chat", "ChatPromptTemplate", {"input_variables": variables, "messages": messages})
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _fields(text: str) -> dict[str, Json]:
    """A template with nothing but variables, as an f-string: LangChain reads no Jinja from a file."""
    names: list[str] = []

    def braced(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0] * 2
        names.append(found[1])
        return "{" + found[1] + "}"

    if re.search(r"\{[%#]", text) or re.search(r"\{\{(?!-?\s*\w+\s*-?\}\})", text):
        raise Left("a template with more than variables")
    template = re.sub(r"\{\{\s*(\w+)\s*\}\}|[{}]", braced, text)
    return {"input_variables": sorted(set(names)), "template": template, "template_format": "f-string"}


def _constructor(package: str, module: str, name: str, kwargs: Json) -> dict[str, Json]:
    return {"lc": 1, "type": "constructor", "id": ["langchain", package, module, name], "kwargs": kwargs}
