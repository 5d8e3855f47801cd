"""Suites: a YAML file becomes prompts, models, variants, cases and scorers, checked before anything is asked.

Every file that a suite names lies in the project. A value that a prompt needs and a case lacks is told here,
with the case's line.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from workbench.define.data import load_cases
from workbench.define.gates import resolve_gates
from workbench.define.held_out import refuse_trained
from workbench.define.places import in_file
from workbench.define.project import Project
from workbench.define.recorded import PROMPT, recorded_model
from workbench.define.retrieve import as_given, load_retrieval
from workbench.define.suite_checks import check_inputs, check_templates
from workbench.define.suite_file import (
    Answer,
    CasesFile,
    ModelEntry,
    ModelUse,
    Race,
    RecordedUse,
    SuiteFile,
    alias_of,
    as_list,
)
from workbench.define.sweep import make_variants, select
from workbench.define.yamlfile import KeyPath, Located, parse_value, read_yaml, shown_value, validate
from workbench.errors import SuiteError, UnknownName
from workbench.records import EMPTY, Json, Model, Prompt, ScorerSpec, Suite, Variant, canonical

ENDINGS = (".yaml", ".yml")


class Prompts(Protocol):
    """Where prompts are found: `define.library.Library`."""

    def find(self, ref: str) -> Prompt: ...


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says in place of the suite's file."""

    only: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """Keeps the variants that `sweep.select` finds by it, such as {"prompt": "few-shot"}."""
    set_params: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """Parameters above all others; a list is an axis."""
    limit: int | None = None
    repeats: int | None = None
    seed: int | None = None

    @property
    def told(self) -> str:
        """What changes which trials there are, as it is written on the command line."""
        chosen = [("--only", f"{k}={v}") for k, v in self.only.items()]
        chosen += [("--set", f"{k}={v}") for k, v in self.set_params.items()]
        chosen += [(f"--{k}", str(v)) for k, v in (("limit", self.limit), ("repeats", self.repeats)) if v is not None]
        return " ".join(f"{option} {value}" for option, value in chosen)


def load_suite(
    source: str | Path | Located,
    project: Project,
    library: Prompts,
    scorer_names: Collection[str] | None = None,
    overrides: Overrides | None = None,
) -> Suite:
    """The suite of a file, of a name below `evals/`, or of a text that `parse_yaml` has read; resolved.

    With `scorer_names` every scorer must be one of them. Raises SuiteError, DataError, PromptError, each with
    file and line; UnknownName where there is no such suite."""
    asked = overrides or Overrides()
    located = source if isinstance(source, Located) else _read(find_suite(str(source), project), project)
    file = _with_files(_overridden(validate(SuiteFile, located), asked), project, located)
    prompts = _prompts(file, library, located)
    with located.at("variants" if file.variants else "params"):
        variants = make_variants(file, prompts, project.defaults.params)
    models = _models(variants, file, project, located)
    scorers = tuple(_scorers(file, project, located, scorer_names))
    kept, reference = _chosen(variants, file, prompts, located, asked.only)
    cases = load_cases(file.cases, project, located, asked.limit)
    refuse_trained({v.model: models[v.model] for v in kept}, cases, project, located)
    used = {v.revision: prompts[ref] for ref in prompts for v in kept if v.revision == prompts[ref].revision}
    retrieve = load_retrieval(file, project, located, kept, used)
    check_inputs(as_given(kept, retrieve), used, cases, located)
    check_templates(scorers, file, cases, located)
    return Suite(
        name=file.name or Path(located.path).stem,
        stage=file.stage,
        variants=kept,
        cases=cases,
        scorers=scorers,
        prompts=used,
        models={v.model: models[v.model] for v in kept},
        expected_field=file.cases.expected if isinstance(file.cases, CasesFile) else None,
        repeats=asked.repeats or file.repeats or project.defaults.repeats,
        seed=file.seed if asked.seed is None else asked.seed,
        block=file.block,
        narrowed=asked.told,
        reference=reference,
        margin=file.margin,
        allow_failed=file.allow_failed,
        gates=_gates(file, variants, prompts, scorers, located),
        retrieve=retrieve,
        **_stopping(file, (len(variants), len(kept)), scorers, located),
        budget=file.budget.model_dump(exclude_none=True),
        reuse=file.reuse.model_dump(exclude_none=True),
        text=located.text,
        path=located.path,
    )


def load_scorers(text: str, project: Project, known: Collection[str]) -> tuple[ScorerSpec, ...]:
    """Scorers by themselves: those of a suite's file, or one entry as a suite writes it, such as `length: 80`.

    Raises SuiteError or UnknownName with the place.
    """
    if text.endswith(ENDINGS):
        located = _read(find_suite(text, project), project)
    else:
        entry = parse_value(text, "--with", entry=True)
        located = Located({"cases": [{}], "scorers": [entry]}, {}, text, f"--with {shown_value(text)}")
    return tuple(_scorers(validate(SuiteFile, located), project, located, known))


def at_scorers(text: str, project: Project) -> AbstractContextManager[None]:
    """Gives an error of a scorer that `load_scorers` has read from a suite's file that file and its line."""
    if not text.endswith(ENDINGS):
        return nullcontext()
    return in_file(lambda: _read(find_suite(text, project), project))


def _read(path: Path, project: Project) -> Located:
    return read_yaml(path, project.shown(path))


def find_suite(ref: str, project: Project) -> Path:
    """The file of a suite: a path from here or from the project folder, or a name below `evals/`."""
    if ref.endswith(ENDINGS):
        places = [Path(ref), project.root / ref, project.evals_root / ref]
    else:
        places = [project.evals_root / f"{ref}{ending}" for ending in ENDINGS]
    for place in places:
        if place.is_file():
            return place
    raise UnknownName("suite", ref, suite_names(project))


def suite_names(project: Project) -> list[str]:
    """Names of all suites of the project."""
    root = project.evals_root
    paths = (path for ending in ENDINGS for path in root.rglob(f"*{ending}"))
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in paths)


def suite_schema() -> dict[str, Json]:
    """The JSON Schema of a suite's file."""
    return SuiteFile.model_json_schema()


def _overridden(file: SuiteFile, asked: Overrides) -> SuiteFile:
    """With the forced parameters among the suite's; the models' and variants' own of that name give way."""
    forced = asked.set_params
    if not forced:
        return file

    def left(params: Mapping[str, Json]) -> dict[str, Json]:
        return {name: value for name, value in params.items() if name not in forced}

    def yielding(entry: ModelEntry | None) -> ModelEntry | None:
        return entry.model_copy(update={"params": left(entry.params)}) if isinstance(entry, ModelUse) else entry

    variants = [
        entry.model_copy(update={"params": left(entry.params), "model": yielding(entry.model)})
        for entry in file.variants
    ]
    models = [yielding(entry) for entry in as_list(file.models)]
    params = {**file.params, **forced}
    return file.model_copy(update={"params": params, "models": models, "variants": variants})


def _with_files(file: SuiteFile, project: Project, located: Located) -> SuiteFile:
    """Schemas and grammars that are named by file become values."""
    variants = []
    for i, entry in enumerate(file.variants):
        with located.at("variants", i, "answer"):
            variants.append(entry.model_copy(update={"answer": entry.answer and _with_file(entry.answer, project)}))
    with located.at("answer"):
        answer = file.answer and [_with_file(form, project) for form in as_list(file.answer)]
    return file.model_copy(update={"variants": variants, "answer": answer})


def _with_file(answer: Answer, project: Project) -> Answer:
    if isinstance(answer.json_schema, str):
        return answer.model_copy(update={"json_schema": _read_schema(answer.json_schema, project)})
    if answer.grammar is not None and "::=" not in answer.grammar:
        return answer.model_copy(update={"grammar": _read_text(answer.grammar, project)})
    return answer


def _read_text(name: str, project: Project) -> str:
    try:
        return project.path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"'{name}' can't be read as UTF-8 text: {error}") from error


def _read_schema(name: str, project: Project) -> Json:
    text = _read_text(name, project)
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise SuiteError(f"'{name}' is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise SuiteError(f"'{name}' is not a JSON Schema: it must be an object")
    return schema


def _prompts(file: SuiteFile, library: Prompts, located: Located) -> dict[str, Prompt]:
    """By the names that the suite uses."""
    places: dict[str, tuple[str | int, ...]] = {}
    for i, entry in enumerate(file.variants):
        if entry.prompt is not None:
            places.setdefault(entry.prompt, ("variants", i, "prompt"))
    for i, ref in enumerate(as_list(file.prompts)):
        places.setdefault(ref, ("prompts", i))
    entries = [entry for _, entry in _model_entries(file)]
    if not places and entries and all(isinstance(entry, RecordedUse) for entry in entries):
        return {PROMPT.name: PROMPT}
    if not places:
        raise SuiteError("names no prompt; add prompts: [NAME]", located.path, located.line(("prompts",)))
    prompts = {}
    by_revision: dict[str, Prompt] = {}
    for ref, place in places.items():
        with located.at(*place):
            prompts[ref] = library.find(ref)
            same = by_revision.setdefault(prompts[ref].revision, prompts[ref])
            if same.name != prompts[ref].name:
                raise SuiteError(f"'{ref}' says the same as '{same.name}', to the letter; name one of the two")
    return prompts


def _models(variants: tuple[Variant, ...], file: SuiteFile, project: Project, located: Located) -> dict[str, Model]:
    entries: dict[str, tuple[KeyPath, ModelEntry]] = {}
    for place, entry in _model_entries(file):
        _, known = entries.setdefault(alias_of(entry), (place, entry))
        if known != entry and (isinstance(known, RecordedUse) or isinstance(entry, RecordedUse)):
            told = f"two models are called '{alias_of(entry)}'; give recorded answers another name with 'as: NAME'"
            raise SuiteError(told, located.path, located.line(place))
    models = {}
    for alias in dict.fromkeys([*entries, *(v.model for v in variants)]):
        place, entry = entries.get(alias, (("prompts",), alias))
        with located.at(*place):
            model = recorded_model(entry, project) if isinstance(entry, RecordedUse) else project.model(alias)
        if file.exact and model.engine == "llama":
            model = replace(model, settings={**model.settings, "exact": True})
        models[alias] = model
    return models


def _model_entries(file: SuiteFile) -> Iterator[tuple[KeyPath, ModelEntry]]:
    """With their places."""
    for i, entry in enumerate(as_list(file.models)):
        yield ("models", i), entry
    for i, variant in enumerate(file.variants):
        if variant.model is not None:
            yield ("variants", i, "model"), variant.model


def _scorers(
    file: SuiteFile, project: Project, located: Located, known: Collection[str] | None
) -> Iterator[ScorerSpec]:
    taken: set[str] = set()
    for i, entry in enumerate(file.scorers):
        with located.at("scorers", i):
            spec = _scorer(entry, project)
            if known is not None and spec.scorer not in known:
                raise UnknownName("scorer", spec.scorer, known)
            if spec.name in taken:
                raise SuiteError(f"two scorers are named '{spec.name}'; give one another name with 'as: NAME'")
        taken.add(spec.name)
        yield spec


def _scorer(entry: str | dict[str, Json], project: Project) -> ScorerSpec:
    if isinstance(entry, str):
        return ScorerSpec(entry, entry)
    names = [name for name in entry if name != "as"]
    if len(names) != 1:
        raise SuiteError("a scorer is NAME, {NAME: {settings}} or {NAME: value}, with 'as: OTHER' beside it")
    (name,) = names
    value = entry[name]
    settings = {} if value is None else dict(value) if isinstance(value, dict) else {"value": value}
    expected = settings.pop("expected", None)
    if expected is not None and not isinstance(expected, str):
        expected = "{{ " + canonical(expected) + " }}"
    if name == "json_schema" and "value" in settings:
        settings["schema"] = settings.pop("value")
    if isinstance(settings.get("schema"), str):
        settings["schema"] = _read_schema(settings["schema"], project)
    return ScorerSpec(str(entry.get("as", name)), name, settings, expected)


def _chosen(
    variants: tuple[Variant, ...],
    file: SuiteFile,
    prompts: Mapping[str, Prompt],
    located: Located,
    only: Mapping[str, Json],
) -> tuple[tuple[Variant, ...], str | None]:
    """The variants that `only` keeps, and the id of the reference where it is one of them."""
    reference = None
    if file.reference is not None:
        with located.at("reference"):
            reference = _single(select(variants, file.reference, prompts), variants)
    kept = tuple(select(variants, only, prompts)) if only else variants
    if not kept:
        told = ", ".join(f"{name}={value}" for name, value in only.items())
        raise SuiteError(f"no variant has {told}; there are: {_list(variants)}", located.path)
    return kept, reference if reference in {v.id for v in kept} else None


def _single(found: list[Variant], variants: tuple[Variant, ...]) -> str:
    if len(found) != 1:
        told = f"{len(found)} variants are" if found else "no variant is"
        raise SuiteError(f"the reference must be one variant, but {told} so: {_list(found or variants)}")
    return found[0].id


def _list(variants: Collection[Variant]) -> str:
    labels = [f"'{v.label}'" for v in variants]
    return ", ".join(labels[:8]) + (", …" if len(labels) > 8 else "")


def _gates(
    file: SuiteFile,
    variants: tuple[Variant, ...],
    prompts: Mapping[str, Prompt],
    scorers: tuple[ScorerSpec, ...],
    located: Located,
) -> tuple[Mapping[str, Json], ...]:
    """The gates, about all variants of the file, also those that this run leaves out."""

    def find(wanted: Mapping[str, Json]) -> list[Variant]:
        found = select(variants, wanted, prompts)
        if not found:
            raise SuiteError(f"no variant is so; there are: {_list(variants)}")
        return found

    gates = resolve_gates(file.gates, {s.name for s in scorers}, file.margin, located, find)
    return tuple(gate.to_json() for gate in gates)


def _stopping(
    file: SuiteFile, variants: tuple[int, int], scorers: tuple[ScorerSpec, ...], located: Located
) -> dict[str, Any]:
    """`until` and `race` with the scorer that decides; empty where too few variants are left to compare.

    `variants`: how many the suite has, and how many are kept of them."""
    rules = {key: rule for key, rule in (("until", file.until), ("race", file.race)) if rule is not None}
    found: dict[str, Mapping[str, Json]] = {}
    for key, rule in rules.items():
        fewest = rule.keep + 1 if isinstance(rule, Race) else 2
        with located.at(key):
            if len(rules) > 1:
                raise SuiteError("a suite has 'until' or 'race', not both; take one of them out")
            if not scorers:
                raise SuiteError(f"'{key}' needs scores to decide by; add a scorer to 'scorers'")
            if rule.scorer is not None and rule.scorer not in (names := [s.name for s in scorers]):
                raise UnknownName("scorer", rule.scorer, names)
            if variants[0] < fewest:
                raise SuiteError(f"'{key}' needs at least {fewest} variants, and the suite has {variants[0]}")
        if variants[1] >= fewest:
            found[key] = {"scorer": scorers[0].name, **rule.model_dump(exclude_none=True)}
    return found
