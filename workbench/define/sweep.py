"""From a suite's axes to its variants, and from variants and cases to trials in the order they are asked.

Parameters, strongest first: the variant's own, the model's own, the suite's, the prompt's, the project's
defaults; what a model is `without` is taken away last. A list is an axis, except `stop`, whose
flat list of texts is one value; any list is given as one value by a list around it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from workbench.define.data import shuffled
from workbench.define.retrieve import retrieve_axes
from workbench.define.suite_file import Answer, ModelEntry, ModelUse, RecordedUse, SuiteFile, VariantEntry, as_list
from workbench.errors import SuiteError, suggest
from workbench.records import Case, Json, Prompt, Suite, Trial, Variant, canonical

MAX_VARIANTS = 10_000


@dataclass(frozen=True, slots=True)
class Axis:
    """The values that one setting takes."""

    kind: str
    """`params`, `vars`, `answer` or `logprobs`."""
    name: str
    values: Sequence[Any]
    """One value: a constant."""


Settings = Mapping[str, Mapping[str, Any]]
"""Kind of axis → name → value."""


def make_variants(file: SuiteFile, prompts: Mapping[str, Prompt], defaults: Mapping[str, Json]) -> tuple[Variant, ...]:
    """All variants in the suite's order, labelled; the same thing stands once.

    `prompts` by the names that the suite uses; `defaults` are parameters below all others. Raises SuiteError.
    """
    grid = _written(file) if file.variants else _grid(file, list(prompts))
    found: dict[str, Variant] = {}
    for ref, model, settings in grid:
        prompt = prompts[ref]
        if isinstance(model, RecordedUse):
            how = {"recorded": model.recorded}
            variant = Variant(prompt.name, prompt.revision, model.alias, vars=settings["vars"], answer=how)
            found.setdefault(variant.id, variant)
            continue
        use = _use(model, prompt)
        params = {**defaults, **prompt.options, **settings["params"], **use.params}
        params |= settings["own"]
        variant = Variant(
            prompt=prompt.name,
            revision=prompt.revision,
            model=use.use,
            params={name: value for name, value in params.items() if name not in use.without},
            vars=settings["vars"],
            answer=_answer(settings["answer"].get("answer")),
            logprobs=settings["logprobs"].get("logprobs", 0),
        )
        found.setdefault(variant.id, variant)
    return _labelled(list(found.values()), prompts)


def select(
    variants: Iterable[Variant], wanted: Mapping[str, Json], prompts: Mapping[str, Prompt] | None = None
) -> list[Variant]:
    """The variants that `{prompt, model, any parameter or template input}` describes.

    A prompt matches by its name, the name's last part, or a key of `prompts`; values match by their text.
    Raises SuiteError for a key that no variant has.
    """
    variants = list(variants)
    flat: dict[str, Json] = {}
    for name, value in wanted.items():
        flat |= value if name in ("params", "vars") and isinstance(value, dict) else {name: value}
    known = {"prompt", "model", "label", *(name for v in variants for name in (*v.params, *v.vars))}
    for name in flat:
        if name not in known:
            raise SuiteError(f"no variant has a '{name}'{suggest(name, known)}")
    return [v for v in variants if all(_has(v, name, value, prompts or {}) for name, value in flat.items())]


def blocks(suite: Suite) -> Iterator[list[Trial]]:
    """Trials in blocks of `suite.block` cases that count, in a random order of cases that the suite's seed fixes.

    A block holds every variant and repeat of its cases; requests that share a beginning are neighbours. Where
    the suite may end early, cases of a cluster follow each other, so that what has been seen are whole clusters.
    """
    order = shuffled(suite.cases, suite.seed)
    if suite.until or suite.race:
        order = _clusters_together(order)
    groups: dict[str, dict[str, list[Variant]]] = {}
    for variant in suite.variants:
        groups.setdefault(variant.model, {}).setdefault(variant.revision, []).append(variant)
    together = [same for by_prompt in groups.values() for same in by_prompt.values()]
    for cases in _so_many(order, suite.block):
        yield [
            Trial(variant, case, repeat)
            for same in together
            for case in cases
            for variant in same
            for repeat in range(suite.repeats)
        ]


def _so_many(order: Sequence[Case], size: int) -> Iterator[list[Case]]:
    """So many cases at a time that count, with those in quarantine that lie between them: how far a run is can then be
    said in cases that count."""
    counted = [not case.quarantined for case in order]
    last = max(0, (sum(counted) - 1) // size)
    numbers = (min(before // size, last) for before in itertools.accumulate(counted, initial=0))
    for _, pairs in itertools.groupby(zip(numbers, order, strict=False), key=itemgetter(0)):
        yield [case for _, case in pairs]


def _clusters_together(cases: list[Case]) -> list[Case]:
    """In the order in which each cluster first appears; a case without one is one of its own."""
    first: dict[tuple[str, str], int] = {}
    keys = [("cluster", c.cluster) if c.cluster is not None else ("case", c.id) for c in cases]
    for i, key in enumerate(keys):
        first.setdefault(key, i)
    return [cases[i] for i in sorted(range(len(cases)), key=lambda i: (first[keys[i]], i))]


def trials(suite: Suite) -> Iterator[Trial]:
    """All trials of a suite, block after block."""
    return itertools.chain.from_iterable(blocks(suite))


def _axes(file: SuiteFile) -> list[Axis]:
    axes = [Axis("params", name, _values("params", name, value)) for name, value in file.params.items()]
    axes += [Axis("vars", name, _values("vars", name, value)) for name, value in file.vars.items()]
    if file.retrieve is not None:
        found = retrieve_axes(file.retrieve)
        axes += [Axis("vars", name, _values("retrieve", name, value)) for name, value in found.items()]
    if file.answer is not None:
        axes.append(Axis("answer", "answer", as_list(file.answer)))
    return [*axes, Axis("logprobs", "logprobs", as_list(file.logprobs))]


def _values(kind: str, name: str, value: Json) -> list[Json]:
    if not isinstance(value, list) or (name == "stop" and all(isinstance(text, str) for text in value)):
        return [value]
    if not value:
        raise SuiteError(f"{kind}.{name} is an empty list; an axis needs a value")
    return value


def _combined(axes: list[Axis], how: str) -> Iterator[Settings]:
    lengths = {axis.name: len(axis.values) for axis in axes if len(axis.values) > 1}
    if how == "zip":
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {n}" for name, n in lengths.items())
            raise SuiteError(f"axes that are zipped must be equally long: {told}")
        count = max(lengths.values(), default=1)
        rows: Iterable[Sequence[Any]] = zip(
            *(axis.values if len(axis.values) > 1 else list(axis.values) * count for axis in axes), strict=True
        )
    else:
        rows = itertools.product(*(axis.values for axis in axes))
    for row in rows:
        settings: dict[str, dict[str, Any]] = {kind: {} for kind in ("params", "vars", "answer", "logprobs", "own")}
        for axis, value in zip(axes, row, strict=True):
            settings[axis.kind][axis.name] = value
        yield settings


def _grid(file: SuiteFile, known: list[str]) -> Iterator[tuple[str, ModelEntry | None, Settings]]:
    axes = _axes(file)
    lengths = [len(axis.values) for axis in axes]
    prompts, models = as_list(file.prompts) or known, as_list(file.models) or [None]
    if len(prompts) > 1 and any(isinstance(model, RecordedUse) for model in models):
        raise SuiteError("recorded answers were given to one prompt; name one, or write each in 'variants'")
    count = len(prompts) * len(models) * (max(lengths) if file.axes == "zip" else math.prod(lengths))
    _check_count(count)
    settings = list(_combined(axes, file.axes))
    return ((p, m, s) for p in prompts for m in models for s in settings)


def _written(file: SuiteFile) -> Iterator[tuple[str, ModelEntry | None, Settings]]:
    """The variants that are written out; the suite's own params and vars are constants below theirs."""
    _check_count(len(file.variants))
    axes = _axes(file)
    if many := [axis.name for axis in axes if len(axis.values) > 1]:
        raise SuiteError(f"'{many[0]}' is an axis, but 'variants' are written out; give each its value there")
    (common,) = _combined(axes, "product")
    for i, entry in enumerate(file.variants):
        prompt = entry.prompt or _only(as_list(file.prompts), "prompt", i)
        model = entry.model or (_only(as_list(file.models), "model", i) if file.models else None)
        yield prompt, model, _over(common, entry)


def _over(common: Settings, entry: VariantEntry) -> Settings:
    return {
        "params": {**common["params"], **entry.params},
        "vars": {**common["vars"], **entry.vars},
        "answer": {"answer": entry.answer} if entry.answer else common["answer"],
        "logprobs": common["logprobs"] if entry.logprobs is None else {"logprobs": entry.logprobs},
        "own": entry.params,
    }


def _only(names: list[Any], what: str, position: int) -> Any:
    if len(names) != 1:
        raise SuiteError(f"variants[{position}] names no {what}, and the suite does not name just one")
    return names[0]


def _check_count(count: int) -> None:
    if count > MAX_VARIANTS:
        raise SuiteError(f"the sweep has {count:,} variants, more than {MAX_VARIANTS:,}; shorten its axes")


def _use(model: ModelEntry | None, prompt: Prompt) -> ModelUse:
    if model is None and prompt.model is None:
        raise SuiteError(f"neither the suite nor prompt '{prompt.name}' names a model; add models: [smollm2]")
    entry = prompt.model if model is None else model
    return entry if isinstance(entry, ModelUse) else ModelUse(use=str(entry))


def _answer(answer: Answer | None) -> dict[str, Json]:
    return {} if answer is None else answer.model_dump(exclude_none=True, by_alias=True)


def _has(variant: Variant, name: str, wanted: Json, prompts: Mapping[str, Prompt]) -> bool:
    if name == "prompt":
        meant = prompts.get(str(wanted))
        same_revision = meant is not None and meant.revision == variant.revision
        return same_revision or wanted in (variant.prompt, variant.prompt.rsplit("/", 1)[-1])
    if name in ("model", "label"):
        return bool(wanted == getattr(variant, name))
    values = [group[name] for group in (variant.params, variant.vars) if name in group]
    return any(_text(value) == _text(wanted) for value in values)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else canonical(value)


def _labelled(variants: list[Variant], prompts: Mapping[str, Prompt]) -> tuple[Variant, ...]:
    """Each with only what differs between them, in the order prompt, model, settings."""
    if len(variants) == 1:
        return (replace(variants[0], label=variants[0].prompt),)
    names = _prompt_names(variants, prompts)
    traits = [{"prompt": names[v.revision], "model": v.model, **_traits(v)} for v in variants]
    differing = [n for n in dict.fromkeys(n for t in traits for n in t) if len({t.get(n) for t in traits}) > 1]
    labels = [" · ".join(t[n] for n in differing if n in t) for t in traits]
    twice = Counter(labels)
    return tuple(
        replace(v, label=label if label and twice[label] == 1 else f"{label or v.prompt} · {v.id[4:10]}")
        for v, label in zip(variants, labels, strict=True)
    )


def _traits(variant: Variant) -> dict[str, str]:
    """Setting → how a label shows it."""
    told = {f"{n}": v for n, v in (*variant.params.items(), *variant.vars.items())}
    shown = {name: f"{name}={_cut(_text(value))}" for name, value in told.items()}
    answer = "".join(variant.answer) or "free text"
    return {**shown, "answer form": f"answer={answer}", "logprobs": f"logprobs={variant.logprobs}"}


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 24 else flat[:23] + "…"


def _prompt_names(variants: list[Variant], prompts: Mapping[str, Prompt]) -> dict[str, str]:
    """Revision → the shortest name that no other prompt of the suite has."""
    full = {v.revision: v.prompt for v in variants}
    refs = {prompt.revision: ref for ref, prompt in prompts.items()}
    last = {revision: name.rsplit("/", 1)[-1] for revision, name in full.items()}
    for names in (last, full):
        if len(set(names.values())) == len(names):
            return names
    return {revision: refs.get(revision, name) for revision, name in full.items()}
