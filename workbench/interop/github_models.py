"""`.prompt.yml` of GitHub Models: https://docs.github.com/github-models/use-github-models/storing-prompts-in-github-repositories."""

from __future__ import annotations

import json
import re
from pathlib import Path

from workbench.define.yamlfile import write_yaml
from workbench.interop import promptfoo_files as files
from workbench.interop.nunjucks import chat_body
from workbench.interop.report import Left, Report, mapping
from workbench.records import Json

KEYS = {"name", "description", "model", "modelParameters", "messages", "testData", "evaluators"}
PARAMS = {"temperature": "temperature", "topP": "top_p", "maxTokens": "max_tokens", "maxCompletionTokens": "max_tokens",
          "top_p": "top_p", "max_tokens": "max_tokens"}  # fmt: skip
ADDRESS = {"base_url": "https://models.github.ai/inference", "api_key_env": "GITHUB_TOKEN"}
_VALUE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def import_github_models(path: Path) -> Report:
    """The prompt, its model, and a suite where there are test data; the report tells why where it is refused."""
    report = Report(str(path))
    name = re.sub(r"[^\w.-]+", "-", path.name.split(".")[0]).strip("-.") or "imported"
    try:
        data = files.load(path)
        if not isinstance(data, dict) or (odd := sorted(data.keys() - KEYS)):
            raise Left(f"'{odd[0]}'" if isinstance(data, dict) else "it is no mapping")
        _prompt(report, name, data)
        _suite(report, name, data)
    except Left as why:
        report.add(str(why), "left", "has no counterpart")
    return report


def _prompt(report: Report, name: str, data: dict[str, Json]) -> None:
    params = {}
    for key, value in mapping(data.get("modelParameters"), "modelParameters").items():
        if key not in PARAMS:
            raise Left(f"the model parameter '{key}'")
        params[PARAMS[key]] = value
    front: dict[str, Json] = {"name": name, "description": str(data.get("description") or "")}
    if data.get("model"):
        alias = re.sub(r"[^\w.-]+", "-", str(data["model"])).strip("-.")
        front["model"] = {"id": alias, **({"options": params} if params else {})}
        models = {alias: {"engine": "openai", "model": str(data["model"]), **ADDRESS}}
        report.files["workbench.yaml"] = write_yaml({"models": models})
        report.add(f"model {data['model']}", "carried")
    elif params:
        front["model"] = {"options": params}
    body = chat_body(data.get("messages"))
    report.files[f"prompts/{name}.prompty"] = f"---\n{write_yaml(front)}---\n{body}"
    report.add("messages", "carried")


def _suite(report: Report, name: str, data: dict[str, Json]) -> None:
    rows = data.get("testData")
    if not rows:
        if data.get("evaluators"):
            raise Left("evaluators without test data")
        return
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Left("testData that is no list of mappings")
    evaluators = data.get("evaluators") or []
    if not isinstance(evaluators, list):
        raise Left("evaluators that are no list")
    scorers = [_scorer(entry) for entry in evaluators]
    model = {} if data.get("model") else {"models": ["echo"]}
    suite = {"name": name, "prompts": [name], **model, "cases": f"data/{name}.jsonl", "scorers": scorers}
    report.files[f"evals/{name}.yaml"] = write_yaml(suite)
    report.files[f"data/{name}.jsonl"] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    report.add(f"{len(rows)} test data", "carried")
    for scorer in scorers:
        report.add(f"evaluator {scorer['as']}", "carried")


def _scorer(entry: Json) -> dict[str, Json]:
    """An evaluator on the answer's text as a scorer."""
    check = entry["string"] if isinstance(entry, dict) and set(entry) == {"name", "string"} else None
    if not isinstance(check, dict) or len(check) != 1:
        raise Left(f"evaluator {entry.get('name') if isinstance(entry, dict) else entry}, which is no check of a text")
    ((kind, value),) = check.items()
    name = {"as": str(entry["name"])}
    fills = isinstance(value, str) and _VALUE.search(value)
    if kind == "equals":
        return {"exact": {"expected": str(value), "strip": False}, **name}
    if kind == "contains":
        return {"contains": {"expected": str(value)}, **name}
    if kind in ("startsWith", "endsWith") and not fills:
        pattern = re.escape(str(value))
        return {"regex": {"pattern": rf"\A{pattern}" if kind == "startsWith" else rf"{pattern}\Z"}, **name}
    raise Left(f"evaluator {entry['name']}: '{kind}'" + (" with a variable" if fills else ""))
