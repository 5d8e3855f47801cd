"""What a promptfoo config has become on its way, and the files of a project that come of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workbench.define.project import FILE, ProjectFile
from workbench.define.prompt import parse_prompt
from workbench.define.suite_file import SuiteFile
from workbench.define.template import variables_used
from workbench.define.yamlfile import parse_yaml, validate, write_yaml
from workbench.errors import FileError
from workbench.interop.promptfoo_asserts import JUDGED, Scored
from workbench.interop.promptfoo_models import Provider
from workbench.interop.report import Report
from workbench.records import Json

GRADER: Mapping[str, Json] = {"engine": "openai", "model": "gpt-4.1"}
EMBEDDER: Mapping[str, Json] = {"engine": "openai", "model": "text-embedding-3-large", "api": "embeddings"}


@dataclass
class PromptDraft:
    """A prompt of the config."""

    name: str
    refs: tuple[str, ...]
    """How providers may name it."""
    body: str
    histories: set[str]
    lenient: bool = False


@dataclass
class Group:
    """Tests with the same assertions, but for the values in their cases."""

    scorers: list[Scored]
    threshold: float | None
    rows: list[dict[str, Json]] = field(default_factory=list)


@dataclass
class Work:
    """An import on its way."""

    config: Mapping[str, Json]
    base: Path
    name: str
    report: Report
    prompts: list[PromptDraft] = field(default_factory=list)
    providers: list[Provider] = field(default_factory=list)
    groups: dict[str, Group] = field(default_factory=dict)
    models: dict[str, Mapping[str, Json]] = field(default_factory=dict)


def write_project(work: Work) -> None:
    """The files of the import."""
    made = work.report.files
    for prompt in work.prompts:
        front: dict[str, Json] = {"template": {"strict": False}} if prompt.lenient else {}
        if prompt.histories:
            names = sorted(variables_used(prompt.body))
            kinds = {name: "thread" if name in prompt.histories else "any" for name in names}
            front["inputs"] = [{"name": name, "kind": kind} for name, kind in kinds.items()]
        head = f"---\n{write_yaml(front)}---\n" if front else ""
        made[f"prompts/{prompt.name}.prompty"] = head + prompt.body
    for number, group in enumerate(work.groups.values(), 1):
        name = work.name if number == 1 else f"{work.name}-{number}"
        made[f"data/{name}.jsonl"] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in group.rows)
        made[f"evals/{name}.yaml"] = write_yaml(_suite(work, name, group))
    if any("semantic" in json.dumps(s.entry) for g in work.groups.values() for s in g.scorers):
        work.models["embedder"] = EMBEDDER
    if work.models:
        made["workbench.yaml"] = write_yaml({"models": {name: dict(m) for name, m in work.models.items()}})


def _suite(work: Work, name: str, group: Group) -> dict[str, Json]:
    renamed = {n.removeprefix("var_"): n for row in group.rows for n in row if n.startswith("var_")}
    suite: dict[str, Json] = {"name": name, "description": str(work.config.get("description") or "")}
    suite |= _variants(work)
    suite["cases"] = {"file": f"data/{name}.jsonl", "id": "_id", **({"inputs": renamed} if renamed else {})}
    suite["scorers"] = [{**s.entry, "as": s.name} for s in group.scorers]
    counted = [s for s in group.scorers if s.weight > 0]
    if counted and (group.threshold is not None or any(s.weight != 1 for s in group.scorers)):
        parts = [{"score": {**s.entry, "as": s.name}, "weight": s.weight} for s in counted]
        bound = {} if group.threshold is None else {"at_least": group.threshold}
        suite["scorers"].append({"weighted": {"parts": parts, **bound}, "as": "score"})
    for scored in group.scorers:
        if scored.judge:
            (field_name,) = scored.fields
            number = field_name.removeprefix("assert_")
            work.report.files[f"prompts/judges/{scored.judge}-{number}.prompty"] = "user:\n" + (
                JUDGED[scored.judge] % field_name + "\n"
            )
            work.models.setdefault("judge", GRADER)
    repeats = (work.config.get("evaluateOptions") or {}).get("repeat")
    return suite | ({"repeats": repeats} if repeats else {})


def _variants(work: Work) -> dict[str, Json]:
    """The product of prompts and models, or the pairs that providers choose."""
    uses = {p.alias: {"use": p.alias, "params": dict(p.params)} if p.params else p.alias for p in work.providers}
    if all(p.prompts is None for p in work.providers):
        return {"prompts": [p.name for p in work.prompts], "models": list(uses.values())}
    pairs: list[dict[str, Json]] = []
    for provider in work.providers:
        for prompt in work.prompts:
            if provider.prompts is None or set(provider.prompts) & set(prompt.refs):
                pairs.append({"prompt": prompt.name, "model": uses[provider.alias]})
    return {"variants": pairs}


def check_project(work: Work) -> None:
    """Reads the files as a run would; drops them all where one of them would be refused."""
    try:
        for name, text in work.report.files.items():
            if name.endswith(".prompty"):
                parse_prompt(text, path=name)
            elif name.endswith(".yaml"):
                validate(ProjectFile if name == FILE else SuiteFile, parse_yaml(text, name))
    except FileError as error:
        work.report.add("config", "left", f"what comes of it is refused: {error}")
        work.report.files.clear()
