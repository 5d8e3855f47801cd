"""Dotprompt's `.prompt`: https://google.github.io/dotprompt/reference/, front matter, Picoschema and Handlebars."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from workbench.define.yamlfile import write_yaml
from workbench.interop import promptfoo_files as files
from workbench.interop.handlebars import HISTORY, handlebars_body
from workbench.interop.promptfoo_models import HOSTS
from workbench.interop.report import Left, Report, mapping
from workbench.records import Json

KEYS = {"name", "variant", "description", "model", "config", "input", "output", "metadata", "tools"}
PARAMS = {"temperature": "temperature", "topK": "top_k", "topP": "top_p", "maxOutputTokens": "max_tokens",
          "stopSequences": "stop"}  # fmt: skip
PROVIDERS = {"googleai": "google", **{name: name for name in HOSTS}}
SCALARS = ("string", "integer", "number", "boolean", "any", "null")
_FRONT = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*$\r?\n?", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"(\w+)(\?)?(?:\((array|object|enum)?(?:,\s*(.*))?\))?", re.DOTALL)


def import_dotprompt(path: Path) -> Report:
    """The prompt of a file, and its model; the report tells why where it is refused."""
    report = Report(str(path))
    name = re.sub(r"[^\w-]+", "-", path.name.removesuffix(".prompt")).strip("-") or "imported"
    try:
        text = files.read(path)
        found = _FRONT.match(text)
        data = files.parse(found[1], "front matter") if found and found[1].strip() else {}
        if not isinstance(data, dict) or (odd := sorted(map(str, data.keys() - KEYS))):
            raise Left(f"'{odd[0]}'" if isinstance(data, dict) else "front matter that is no mapping")
        if data.get("tools"):
            raise Left("tools, which are known to the program that runs it")
        body, used, history = handlebars_body(text[found.end() :] if found else text)
        front = {**_front(report, name, data), **_inputs(report, mapping(data.get("input"), "an input"), used, history)}
        front |= _outputs(report, name, mapping(data.get("output"), "an output"))
        report.files[f"prompts/{name}.prompty"] = f"---\n{write_yaml(front)}---\n{body}"
        report.add("template", "carried")
    except Left as why:
        report.add(str(why), "left", "has no counterpart")
    return report


def _front(report: Report, name: str, data: dict[str, Json]) -> dict[str, Json]:
    params = {}
    for key, value in mapping(data.get("config"), "a config").items():
        if key not in PARAMS:
            raise Left(f"'{key}' of config")
        params[PARAMS[key]] = value
        report.add(f"config {key}", "carried")
    model: dict[str, Json] = {"options": params} if params else {}
    if data.get("model"):
        model["id"] = _model(report, str(data["model"]))
    told = {"name": name, "description": str(data.get("description") or ""), "metadata": data.get("metadata")}
    front = {key: value for key, value in told.items() if value}
    # Handlebars gives an empty text for what has no value
    return {**front, **({"model": model} if model else {}), "template": {"strict": False}}


def _model(report: Report, given: str) -> str:
    provider, slash, model = given.partition("/")
    if not slash or provider not in PROVIDERS:
        raise Left(f"the model {given}: no engine for '{provider}'")
    alias = re.sub(r"[^\w.-]+", "-", model).strip("-.")
    models = {alias: {"engine": "openai", "model": model, **HOSTS[PROVIDERS[provider]]}}
    report.files["workbench.yaml"] = write_yaml({"models": models})
    report.add(f"model {given}", "carried")
    return alias


def _inputs(report: Report, given: dict[str, Json], used: set[str], history: bool) -> dict[str, Json]:
    """The declared inputs; those that the template uses and nobody declares may be left out."""
    if odd := sorted(given.keys() - {"schema", "default"}):
        raise Left(f"'{odd[0]}' of input")
    defaults = mapping(given.get("default"), "the default of input")
    declared = {}
    for name, kind, required, about, whole in _properties(given.get("schema") or {}, "input"):
        declared[name] = {"kind": kind, "required": required and name not in defaults, "description": about}
        report.add(f"input {name}", *(("carried",) if whole else ("approximated", f"is any {kind}")))
        if name in used and kind == "boolean":
            report.add(f"the text of {name}", "approximated", "true and false are written True and False")
    for name in (*defaults, *sorted(used - declared.keys())):
        declared.setdefault(name, {"kind": "any", "required": False, "description": ""})
        report.add(f"input {name}", "carried")
    for name, value in defaults.items():
        declared[name]["default"] = value
    if history:
        if HISTORY in declared:
            raise Left(f"an input of the name '{HISTORY}' beside {{{{history}}}}")
        declared[HISTORY] = {"kind": "thread", "required": False, "description": ""}
        report.add("{{history}}", "carried", "an input of kind thread")
    inputs = [{"name": n, **{k: v for k, v in about.items() if v != ""}} for n, about in declared.items()]
    return {"inputs": inputs} if inputs else {}


def _outputs(report: Report, name: str, given: dict[str, Json]) -> dict[str, Json]:
    if odd := sorted(given.keys() - {"schema", "format"}):
        raise Left(f"'{odd[0]}' of output")
    if given.get("format", "json") not in ("json", "text"):
        raise Left(f"the output format '{given['format']}'")
    if not given.get("schema"):
        if given.get("format") == "json":
            report.add("output format json", "approximated", "the suite asks for it, with the scorer json")
        return {}
    properties = list(_properties(given["schema"], "output"))
    if not all(whole for *_, whole in properties):
        raise Left("an output schema with lists, objects or choices inside")
    outputs = [{"name": n, "kind": k, "required": r, "description": about} for n, k, r, about, _ in properties]
    schema = {
        "type": "object",
        "properties": {n: {} if k == "any" else {"type": k} for n, k, *_ in properties},
        "required": [n for n, _, required, *_ in properties if required],
        "additionalProperties": False,
    }
    report.files[f"data/{name}.schema.json"] = json.dumps(schema, indent=2) + "\n"
    asked = f"is asked for by a suite: answer: {{schema: data/{name}.schema.json}}"
    report.add("output schema", "approximated", asked)
    return {"outputs": [{k: v for k, v in output.items() if v != ""} for output in outputs]}


def _properties(schema: Json, place: str) -> Iterator[tuple[str, str, bool, str, bool]]:
    """Name, kind, whether it is required, description, and whether the kind says all, for each property."""
    if isinstance(schema, str) or not isinstance(schema, dict):
        raise Left(f"the {place} schema '{schema}', which is known to the program that runs it")
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        for name, about_it in mapping(schema["properties"], f"the properties of {place}").items():
            inner = mapping(about_it, f"'{name}' of the {place} schema")
            kind = str(inner.get("type", "any"))
            whole = not inner.keys() - {"type", "description"} and kind in SCALARS
            yield name, _kind(kind), name in (schema.get("required") or ()), str(inner.get("description") or ""), whole
        return
    for key, value in schema.items():
        found = _NAME.fullmatch(str(key))
        if found is None:
            raise Left(f"'{key}' of the {place} schema")
        name, optional, form, about = found.groups()
        kind, _, told = value.partition(",") if isinstance(value, str) else ("", "", "")
        if form is None and kind.strip() not in SCALARS:
            raise Left(f"'{key}: {value}' of the {place} schema")
        shown = {"enum": "string", "array": "array", "object": "object"}.get(form or "", kind.strip())
        yield name, _kind(shown), not optional, (about or told).strip(), form is None


def _kind(kind: str) -> str:
    return "any" if kind == "null" else kind
