"""Evals of OpenAI's evals (https://github.com/openai/evals) as suites: a registry's YAML with its samples, or samples
alone.

The classes are read from `evals/elsuite`: what they ask, with which parameters, and how they compare. A sample's
messages are a case's input of kind `thread`, so that they are asked letter for letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.define.yamlfile import write_yaml
from workbench.interop.openai_evals_files import Sample, Spec, messages_of, read_samples, read_specs, samples_in
from workbench.interop.openai_evals_graded import GRADED, Grading, read_grading
from workbench.interop.report import Left, Report
from workbench.records import Json

MATCHES = {
    "match": "evals.elsuite.basic.match:Match",
    "includes": "evals.elsuite.basic.includes:Includes",
    "fuzzy": "evals.elsuite.basic.fuzzy_match:FuzzyMatch",
    "json": "evals.elsuite.basic.json_match:JsonMatch",
}
"""What `--match` names: the class that compares."""
ARGS = {
    MATCHES["match"]: {"max_tokens", "num_few_shot", "few_shot_jsonl"},
    MATCHES["includes"]: {"ignore_case"},
    MATCHES["fuzzy"]: {"max_tokens"},
    MATCHES["json"]: {"max_tokens"},
}
BODY = "{{ input }}\n"
TAKEN = {"messages", "cluster", "_id", "input_text"}
"""Fields of a sample that would mean something else here."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the source leaves open."""

    eval: str | None = None
    """The only eval of the registry's file that is wanted."""
    match: str | None = None
    """For samples alone: a key of MATCHES; None: `match`."""
    model: str = "echo"
    """The alias of the model that is asked: evals names it when it runs."""
    judge: str | None = None
    """… of the model that grades; None: the one that is asked, as there."""


def import_openai_evals(path: Path, options: Options = Options()) -> Report:
    """Prompt, data and suite of each eval; the report tells why where it is refused. Raises UnknownName."""
    report = Report(str(path))
    try:
        if path.suffix == ".jsonl":
            name = _slug(path.parent.name if path.stem == "samples" else path.stem)
            spec = Spec(f"{name}.dev", "", MATCHES[options.match or "match"], {}, path.name)
            _add(report, name, spec, samples_in(path), options, path)
            return report
        specs = read_specs(path, options.eval)
        bases = [spec.base for spec in specs]
        for spec in specs:
            _check(spec, options)
            samples = read_samples(spec.args.get("samples_jsonl"), path)
            _add(report, spec.base if bases.count(spec.base) == 1 else spec.name, spec, samples, options, path)
    except Left as why:
        report.add(why.place or path.name, "left", str(why))
        report.files.clear()
    return report


def _check(spec: Spec, options: Options) -> None:
    if spec.kind not in (*ARGS, GRADED):
        raise Left(f"the class {spec.kind} of {spec.name} has no counterpart", spec.place)
    if options.match is not None:
        raise Left("its class says how it compares; --match is for samples alone", spec.place)
    odd = spec.args.keys() - {"samples_jsonl"} - ARGS.get(spec.kind, set())
    if odd and spec.kind != GRADED:
        raise Left(f"'{min(odd)}' of the args of {spec.name}", spec.place)


def _add(report: Report, name: str, spec: Spec, samples: list[Sample], options: Options, path: Path) -> None:
    """The files of one eval."""
    name = _slug(name)
    grading = None
    if spec.kind == GRADED:
        grading = read_grading(spec, path, samples, f"judges/{name}", options.judge or options.model)
        report.files |= grading.files
        for note in grading.notes:
            report.add(f"{name}: rubric", "approximated", note)
    rows = _rows(report, name, spec, samples, path, grading)
    report.files[f"data/{name}.jsonl"] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    inputs: list[Json] = [{"name": "input", "kind": "thread"}]
    report.files[f"prompts/{name}.prompty"] = f"---\n{write_yaml({'inputs': inputs})}---\n{BODY}"
    suite: dict[str, Json] = {"name": name, **({"description": spec.description} if spec.description else {})}
    suite |= {"prompts": [name], "models": [options.model]}
    params, scorers = (grading.params, grading.scorers) if grading else _scored(spec)
    suite |= {"params": dict(params)} if params else {}
    id_field = "_id" if any("_id" in row for row in rows) else "id"
    cases: dict[str, Json] = {"file": f"data/{name}.jsonl", "id": id_field}
    if all("ideal" in row for row in rows):
        cases["expected"] = "ideal"
    report.files[f"evals/{name}.yaml"] = write_yaml({**suite, "cases": cases, "scorers": scorers})
    report.add(f"{name}: {spec.kind.rpartition(':')[2]}", "carried", ", ".join(map(_scorer_name, scorers)))
    report.add(f"{name}: {len(rows)} samples", "carried")


def _scorer_name(entry: Json) -> str:
    return str(entry) if isinstance(entry, str) else str(entry.get("as") or next(iter(entry)))


def _scored(spec: Spec) -> tuple[Mapping[str, Json], list[Json]]:
    """Parameters that the class sends, and the scorers that compare as it does."""
    kind, args = spec.kind, spec.args
    if kind == MATCHES["match"]:
        return {"temperature": 0}, ["starts_with"]
    if kind == MATCHES["includes"]:
        case = {"ignore_case": True} if _flag(args.get("ignore_case", False), spec) else {}
        return {}, [{"contains": {"match": "any", **case}}]
    most = args.get("max_tokens", 100 if kind == MATCHES["fuzzy"] else 512)
    if isinstance(most, bool) or not isinstance(most, int):
        raise Left(f"max_tokens of {spec.name}, which is no whole number", spec.place)
    scorers: list[Json] = ["fuzzy", "word_f1"] if kind == MATCHES["fuzzy"] else ["json_match"]
    return {"temperature": 0, "max_tokens": most}, scorers


def _flag(value: Json, spec: Spec) -> bool:
    if not isinstance(value, bool):
        raise Left(f"ignore_case of {spec.name}, which is neither true nor false", spec.place)
    return value


def _rows(
    report: Report, name: str, spec: Spec, samples: list[Sample], path: Path, grading: Grading | None
) -> list[dict[str, Json]]:
    """A case for each sample; its id is the sample's own, where all have one, else evals' NAME.SPLIT.NUMBER."""
    shots = _shots(report, name, spec, path)
    key = grading.key if grading else "input"
    ids = [json.dumps(s.values.get("id")) for s in samples]
    own = len(set(ids)) == len(ids) and all(type(s.values.get("id")) in (str, int) for s in samples)
    rows = []
    for number, sample in enumerate(samples):
        values = sample.values
        if taken := values.keys() & TAKEN:
            raise Left(f"a sample's field '{min(taken)}', which has a meaning of its own here", sample.place)
        if key not in values:
            raise Left(f"the sample has no '{key}'", sample.place)
        messages, notes = messages_of(values[key], sample.place)
        for note in notes:
            report.add(f"{name}: input", "approximated", note)
        if shots and isinstance(values[key], str):
            raise Left("few shots with an input that is a text", sample.place)
        row = {**values, "input": [*messages[:-1], *shots, *messages[-1:]]}
        if grading is None:
            _check_ideal(spec, sample)
        else:
            row |= {"input_text": grading.text(values[key])}
        rows.append(row if own else {"_id": ".".join([*spec.name.split(".")[:2], str(number)]), **row})
    return rows


def _check_ideal(spec: Spec, sample: Sample) -> None:
    if "ideal" not in sample.values:
        raise Left("the sample has no 'ideal'", sample.place)
    given = sample.values["ideal"]
    ideals = given if isinstance(given, list) else [given]
    if not ideals or not all(isinstance(ideal, str) for ideal in ideals):
        raise Left("'ideal' is neither a text nor a list of texts", sample.place)
    if "" in ideals and spec.kind != MATCHES["fuzzy"]:
        raise Left("'ideal' is empty, which every answer matches", sample.place)
    for ideal in ideals if spec.kind == MATCHES["json"] else ():
        try:
            json.loads(ideal)
        except (ValueError, RecursionError) as error:
            raise Left(f"'ideal' is not JSON: {error}", sample.place) from error


def _shots(report: Report, name: str, spec: Spec, path: Path) -> list[dict[str, str]]:
    """The messages of the few shots: the first samples of their file, before the last message."""
    count = spec.args.get("num_few_shot", 0)
    if isinstance(count, bool) or not isinstance(count, int):
        raise Left(f"num_few_shot of {spec.name}, which is no whole number", spec.place)
    if count <= 0:
        return []
    found = []
    for sample in read_samples(spec.args.get("few_shot_jsonl"), path)[:count]:
        if not isinstance(sample.values.get("sample"), list):
            raise Left("a few-shot sample without a list 'sample'", sample.place)
        messages, notes = messages_of(sample.values["sample"], sample.place)
        found += messages
        for note in notes:
            report.add(f"{name}: few shots", "approximated", note)
    report.add(f"{name}: {count} few shots", "carried", "written into each case's messages")
    return found


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "imported"
