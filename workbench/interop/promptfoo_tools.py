"""Tools of promptfoo's providers as a prompt has them: https://www.promptfoo.dev/docs/configuration/tools/."""

from __future__ import annotations

from pathlib import Path

from workbench.interop import promptfoo_files as files
from workbench.interop.report import Left
from workbench.records import Json


def tools_of(given: Json, base: Path) -> list[Json]:
    """The tools of `tools` or `functions`, in the shape of OpenAI's chat API; raises Left for what is none."""
    if isinstance(given, str) and given.startswith("file://"):
        given = [tool for path in files.find(base, given) for tool in _listed(files.load(path))]
    return [tool for entry in _listed(given) for tool in _tool(entry, base)]


def _listed(given: Json) -> list[Json]:
    return given if isinstance(given, list) else [given]


def _tool(given: Json, base: Path) -> list[Json]:
    if isinstance(given, str) and given.startswith("file://"):
        return [
            tool
            for path in files.find(base, given)
            for entry in _listed(files.load(path))
            for tool in _tool(entry, base)
        ]
    if not isinstance(given, dict):
        raise Left("a tool that is no mapping")
    function = given.get("function") if given.get("type") == "function" else None
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        return [{"type": "function", "function": function}]
    if not isinstance(given.get("name"), str) or given.keys() - {
        "name",
        "description",
        "parameters",
        "input_schema",
        "type",
    }:
        raise Left(f"the tool {given.get('name') or given.get('type')}: it is none of the kind 'function'")
    if given.get("type") not in (None, "function", "custom"):
        raise Left(f"the tool {given['name']}: it is run by the provider")
    schema = given.get("parameters", given.get("input_schema"))
    told = {name: given[name] for name in ("name", "description") if name in given}
    return [{"type": "function", "function": {**told, **({} if schema is None else {"parameters": schema})}}]


def choice_of(given: Json) -> Json:
    """`tool_choice` in the words of OpenAI's API, from these or Anthropic's; raises Left."""
    if isinstance(given, str) and given in ("auto", "none", "required"):
        return given
    kind = given.get("type") if isinstance(given, dict) else None
    if kind in ("auto", "none", "any"):
        return "required" if kind == "any" else kind
    if kind == "tool" and isinstance(given.get("name"), str):
        return {"type": "function", "function": {"name": given["name"]}}
    if kind == "function" and isinstance(given.get("function"), dict):
        return given
    raise Left("a tool_choice of an unknown form")
