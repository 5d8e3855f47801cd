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
from workbench.interop.promptfoo_files import Generate
from workbench.interop.promptfoo_models import Provider
from workbench.interop.promptfoo_scored import Scored
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
    turn: str | None = None
    """The template of its last message, where the conversation of the tests before goes ahead of it."""


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
    generate: Generate | None = None
    """Runs Python that makes tests; None: it is refused."""
    prompts: list[PromptDraft] = field(default_factory=list)
    providers: list[Provider] = field(default_factory=list)
    groups: dict[str, Group] = field(default_factory=dict)
    models: dict[str, Mapping[str, Json]] = field(default_factory=dict)
    conversations: dict[str, list[Json]] = field(default_factory=dict)
    """The user's turns so far, by promptfoo's conversationId."""

    @property
    def talk(self) -> PromptDraft | None:
        """The prompt that goes on with a conversation."""
        return next((prompt for prompt in self.prompts if prompt.turn is not None), None)

    @property
    def tool_sets(self) -> list[tuple[Json, ...]]:
        """The different sets of tools that the providers have, in their order; none among them."""
        return (
            [s for i, s in enumerate(found) if s not in found[:i]]
            if (found := [p.tools for p in self.providers])
            else []
        )


def write_project(work: Work) -> None:
    """The files of the import."""
    made = work.report.files
    for prompt in work.prompts:
        for tools in work.tool_sets:
            made[f"prompts/{_named(work, prompt, tools)}.prompty"] = _prompty(prompt, tools)
    for number, group in enumerate(work.groups.values(), 1):
        name = work.name if number == 1 else f"{work.name}-{number}"
        made[f"data/{name}.jsonl"] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in group.rows)
        made[f"evals/{name}.yaml"] = write_yaml(_suite(work, name, group))
    if any("semantic" in json.dumps(s.entry) for g in work.groups.values() for s in g.scorers):
        work.models["embedder"] = EMBEDDER
    if work.talk:
        work.models |= {p.alias: _turn_by_turn(p) for p in work.providers}
    if work.models:
        made["workbench.yaml"] = write_yaml({"models": {name: dict(m) for name, m in work.models.items()}})


def _prompty(prompt: PromptDraft, tools: tuple[Json, ...]) -> str:
    front: dict[str, Json] = {"template": {"strict": False}} if prompt.lenient else {}
    if prompt.histories:
        names = sorted(variables_used(prompt.body))
        kinds = {name: "thread" if name in prompt.histories else "any" for name in names}
        front["inputs"] = [{"name": name, "kind": kind} for name, kind in kinds.items()]
    if tools:
        front["tools"] = list(tools)
    return (f"---\n{write_yaml(front)}---\n" if front else "") + prompt.body


def _named(work: Work, prompt: PromptDraft, tools: tuple[Json, ...]) -> str:
    """The name of a prompt with these tools: a prompt holds its tools, a provider of promptfoo its own."""
    number = work.tool_sets.index(tools)
    return prompt.name if number == 0 else f"{prompt.name}-tools-{number + 1}"


def _suite(work: Work, name: str, group: Group) -> dict[str, Json]:
    renamed = {n.removeprefix("var_"): n for row in group.rows for n in row if n.startswith("var_")}
    suite: dict[str, Json] = {"name": name, "description": str(work.config.get("description") or "")}
    suite |= _variants(work)
    suite["cases"] = {"file": f"data/{name}.jsonl", "id": "_id", **({"inputs": renamed} if renamed else {})}
    suite["scorers"] = [{**s.entry, "as": s.name} for s in group.scorers]
    parts = [s for s in group.scorers if not s.aside]
    counted = [s for s in parts if s.weight > 0]
    if counted and (group.threshold is not None or any(s.weight != 1 for s in parts)):
        weighed = [{"score": {**s.entry, "as": s.name}, "weight": s.weight} for s in counted]
        bound = {} if group.threshold is None else {"at_least": group.threshold}
        suite["scorers"].append({"weighted": {"parts": weighed, **bound}, "as": "score"})
    for scored in group.scorers:
        work.report.files |= scored.files
        if scored.judge == "judge":
            work.models.setdefault("judge", GRADER)
    repeats = (work.config.get("evaluateOptions") or {}).get("repeat")
    return suite | ({"repeats": repeats} if repeats else {})


def _turn_by_turn(provider: Provider) -> Mapping[str, Json]:
    return {"engine": "turns", "options": {"of": dict(provider.settings or {"engine": "echo"})}}


def _variants(work: Work) -> dict[str, Json]:
    """The product of prompts and models, or the pairs that providers choose."""
    uses = {p.alias: {"use": p.alias, "params": dict(p.params)} if p.params else p.alias for p in work.providers}
    if all(p.prompts is None for p in work.providers) and len(work.tool_sets) == 1:
        return {"prompts": [p.name for p in work.prompts], "models": list(uses.values())}
    pairs: list[dict[str, Json]] = []
    for provider in work.providers:
        for prompt in work.prompts:
            if provider.prompts is None or set(provider.prompts) & set(prompt.refs):
                pairs.append({"prompt": _named(work, prompt, provider.tools), "model": uses[provider.alias]})
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
