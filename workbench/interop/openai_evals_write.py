"""A suite as a registry of OpenAI's evals: `evals/NAME.yaml` and samples, for `oaieval MODEL NAME --registry_path DIR`.

What `openai_evals` reads back is the same: cases, messages, expected answers, how they are compared. Models and
parameters are no part of the format; of the classes written here Match, FuzzyMatch and JsonMatch ask at temperature 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from workbench.define.prompt import render_prompt
from workbench.define.template import render_value
from workbench.define.yamlfile import write_yaml
from workbench.interop.openai_evals import MATCHES
from workbench.interop.openai_evals_files import ROLES
from workbench.interop.report import Left
from workbench.records import Case, Json, Message, ScorerSpec, Suite, Variant, canonical


@dataclass(frozen=True, slots=True)
class Registry:
    """What an export makes."""

    files: Mapping[str, str]
    """Relative path → text."""
    names: tuple[str, ...]
    """Of the evals."""
    apart: tuple[str, ...]
    """What of the suite is said to `oaieval`, or not at all."""


def evals_registry(suite: Suite) -> Registry:
    """The registry: an eval for each prompt, with what the sweep fills into it, and each scorer; raises Left by name
    for what evals can't express."""
    if not suite.scorers:
        raise Left("it has no scorers, and an eval has a class that compares")
    asked = {canonical([v.revision, dict(v.vars)]): v for v in suite.variants}
    kinds = list(_classes(suite.scorers))
    labels = _distinct([_prompt_label(suite, v) for v in asked.values()])
    entries: dict[str, Json] = {}
    files, names = {}, []
    for label, variant in zip(labels, asked.values(), strict=True):
        _check(suite, variant)
        for spec, kind, args in kinds:
            parts = [suite.name, *([label] if len(asked) > 1 else []), *([spec.name] if len(kinds) > 1 else [])]
            name = "-".join(re.sub(r"[^\w-]+", "-", part) for part in parts).strip("-")
            rows = [_sample(suite, variant, case, spec) for case in suite.cases]
            path = f"{name}/samples.jsonl"
            files[f"data/{path}"] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            metrics = ["accuracy", "f1_score"] if kind == MATCHES["fuzzy"] else ["accuracy"]
            entries[name] = {"id": f"{name}.dev.v0", "metrics": metrics}
            entries[f"{name}.dev.v0"] = {"class": kind, "args": {"samples_jsonl": path, **args}}
            names.append(name)
    if len(set(names)) < len(names):
        raise Left(f"two evals would have the name '{next(n for n in names if names.count(n) > 1)}'")
    files[f"evals/{re.sub(r'[^a-zA-Z0-9_.-]+', '-', suite.name).strip('-.') or 'suite'}.yaml"] = write_yaml(entries)
    return Registry(files, tuple(names), tuple(_apart(suite)))


def _classes(scorers: tuple[ScorerSpec, ...]) -> Iterator[tuple[ScorerSpec, str, dict[str, Json]]]:
    """Each scorer with the class that compares as it does, and its arguments."""
    fuzzy = any(spec.scorer == "fuzzy" for spec in scorers)
    for spec in scorers:
        settings = dict(spec.settings)
        ignore_case = bool(settings.pop("ignore_case", False))
        if spec.scorer == "starts_with" and not ignore_case and not settings:
            yield spec, MATCHES["match"], {}
        elif spec.scorer == "contains" and (not settings or settings.keys() == {"match"}):
            yield spec, MATCHES["includes"], {"ignore_case": True} if ignore_case else {}
        elif spec.scorer == "fuzzy" and not settings:
            yield spec, MATCHES["fuzzy"], {}
        elif spec.scorer == "json_match" and not settings:
            yield spec, MATCHES["json"], {}
        elif spec.scorer != "word_f1" or not fuzzy:  # FuzzyMatch tells both
            known = "starts_with, contains (the expected answer), fuzzy with word_f1, json_match"
            raise Left(f"the scorer '{spec.name}' has no class there; those that have are {known}")


def _check(suite: Suite, variant: Variant) -> None:
    prompt = suite.prompts[variant.revision]
    if variant.answer:
        raise Left(f"the form of the answer, {next(iter(variant.answer))}")
    if prompt.tools:
        raise Left(f"the tools of prompt '{prompt.name}'")
    if prompt.raw:
        raise Left(f"prompt '{prompt.name}', which is raw text: evals asks chat models with messages")


def _prompt_label(suite: Suite, variant: Variant) -> str:
    told = [str(value) for value in variant.vars.values()]
    return "-".join([suite.prompts[variant.revision].name, *told])[:60]


def _distinct(labels: list[str]) -> list[str]:
    return [f"{label}-{i}" if labels.count(label) > 1 else label for i, label in enumerate(labels, 1)]


def _sample(suite: Suite, variant: Variant, case: Case, spec: ScorerSpec) -> dict[str, Json]:
    rendered = render_prompt(suite.prompts[variant.revision], {**case.inputs, **variant.vars}, case.id)
    lead = next((i for i, m in enumerate(rendered) if m.role != "system"), len(rendered))
    messages = [_message(m, case) for m in (*rendered[:lead], *case.messages, *rendered[lead:])]
    return {"id": case.id, "input": messages, "ideal": _ideal(case, spec)}


def _message(message: Message, case: Case) -> dict[str, str]:
    if message.role not in ROLES or any(part.kind != "text" for part in message.parts):
        raise Left(f"case '{case.id}' has a message of the role '{message.role}', or with an image")
    return {"role": message.role, "content": message.text}


def _ideal(case: Case, spec: ScorerSpec) -> Json:
    """The expected answer as text, or a list of texts."""
    expected = case.expected if spec.expected is None else render_value(spec.expected, case.inputs)
    texts = [
        v if isinstance(v, str) else canonical(v) for v in (expected if isinstance(expected, list) else [expected])
    ]
    if expected is None or not texts:
        raise Left(f"case '{case.id}' has no expected answer")
    if spec.scorer == "contains" and spec.settings.get("match", "all") == "all" and len(texts) > 1:
        raise Left(f"case '{case.id}' expects several texts and 'contains' wants them all; evals wants any of them")
    if "" in texts and spec.scorer != "fuzzy":
        raise Left(f"case '{case.id}' expects an empty text, which every answer matches there")
    return texts if isinstance(expected, list) else texts[0]


def _apart(suite: Suite) -> Iterator[str]:
    yield f"models: {', '.join(suite.models)}"
    params = {name: value for variant in suite.variants for name, value in variant.params.items()}
    if params:
        yield f"parameters: {', '.join(params)}"
    if suite.repeats > 1:
        yield f"{suite.repeats} repeats"
    if suite.gates:
        yield "gates"
