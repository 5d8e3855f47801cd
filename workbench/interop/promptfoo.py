"""A promptfoo config becomes a project: prompts, models, cases and one suite for each set of assertions.

The format: https://www.promptfoo.dev/docs/configuration/reference/. Nothing of a config is run: what is code, or
is filled in while promptfoo runs, is refused by name, and so is a config of which anything would be left out.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from workbench.define.data import ROLES
from workbench.define.roles import MARKER
from workbench.define.template import render_template, variables_used
from workbench.errors import PromptError
from workbench.interop import promptfoo_files as files
from workbench.interop.nunjucks import EARLIER, chat_prompt, last_turn, text_prompt, to_jinja
from workbench.interop.promptfoo_asserts import Around, best_of, scorers_of
from workbench.interop.promptfoo_judged import CONVERSATION, Grading, grading_prompt
from workbench.interop.promptfoo_models import provider_of
from workbench.interop.promptfoo_project import Group, PromptDraft, Work, check_project, write_project
from workbench.interop.promptfoo_python import generate
from workbench.interop.promptfoo_scored import Scored
from workbench.interop.report import Left, Report
from workbench.records import Json

NAMES = ("promptfooconfig.yaml", "promptfooconfig.yml", "promptfooconfig.json")
READ = {"description", "prompts", "providers", "targets", "tests", "defaultTest", "scenarios", "evaluateOptions",
        "assertionTemplates"}  # fmt: skip
HARMLESS = {"outputPath", "sharing", "tags", "commandLineOptions", "writeLatestResults", "$schema", "metadata"}
"""Keys that change no answer and no score."""
TEST_KEYS = {"vars", "assert", "description", "metadata", "threshold", "options", "_base"}
MOST_CASES = 100_000


def find_configs(place: Path) -> list[Path]:
    """The configs of a file or a folder, those of folders below it too."""
    if place.is_file():
        return [place]
    return sorted(path for path in place.rglob("promptfooconfig*") if path.suffix in (".yaml", ".yml", ".json"))


def name_of(path: Path) -> str:
    """What an import is called: its folder, and what else the file's name tells."""
    more = "" if path.name in NAMES else path.stem.removeprefix("promptfooconfig").lstrip("-.")
    return _slug(f"{path.resolve().parent.name}-{more}".rstrip("-"))


def import_promptfoo(path: Path, run_python: bool = False) -> Report:
    """Reads a config; the report has the files to write, and tells why where it is refused. With `run_python` Python
    functions that make tests are run once, in the sandbox."""
    report = Report(str(path))
    try:
        config = files.load(path)
        if not isinstance(config, dict):
            raise Left("it is no mapping")
    except Left as why:
        report.add("config", "left", str(why))
        return report
    work = Work(config, path.parent, name_of(path), report, generate if run_python else None)
    for what, step in _STEPS.items():
        try:
            step(work)
        except Left as why:
            report.add(what, "left", str(why))
        except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
            report.add(what, "left", f"it has not the form that promptfoo wants ({type(error).__name__})")
    if not report.refused:
        write_project(work)
        check_project(work)
    return report


def _keys(work: Work) -> None:
    for key in work.config:
        if key in HARMLESS:
            work.report.add(key, "approximated", "not needed here, it changes no answer and no score")
        elif key not in READ:
            work.report.add(key, "left", "has no counterpart")
    options = work.config.get("evaluateOptions") or {}
    for key, value in options.items():
        if key == "repeat" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise Left("'repeat' is no number")
        if key != "repeat":
            work.report.add(f"evaluateOptions.{key}", "approximated", "how fast to ask is decided here")


def _prompts(work: Work) -> None:
    given = work.config.get("prompts")
    for entry in given if isinstance(given, list) else [given]:
        for refs, text, shown in _texts(entry, work.base):
            chat = shown.endswith((".json", ".yaml", ".yml")) or text.lstrip().startswith("[")
            if shown.endswith((".yaml", ".yml")):
                text = json.dumps(files.parse(text, shown))  # noqa: PLW2901
            body, histories = chat_prompt(text) if chat else (text_prompt(text), set())
            if all(body != other.body for other in work.prompts):
                turn = last_turn(text) if EARLIER in histories else None
                name = f"{work.name}/{len(work.prompts) + 1}"
                work.prompts.append(PromptDraft(name, refs, body, histories, turn=turn))
    if not work.prompts:
        raise Left("there is none")
    if work.talk:
        if len(work.prompts) > 1 or (work.config.get("evaluateOptions") or {}).get("repeat", 1) != 1:
            raise Left("'_conversation' in one of several prompts, or with repeats")
        work.report.add("_conversation", "approximated", "each test asks the turns before it anew (engine turns)")
    work.report.add(f"{len(work.prompts)} prompts", "carried")


def _texts(entry: Json, base: Path) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """(references, text, file) of each prompt that an entry stands for."""
    refs: tuple[str, ...] = ()
    if isinstance(entry, dict):
        if odd := [key for key in entry if key not in ("id", "label", "raw")]:
            raise Left(f"'{odd[0]}' of a prompt")
        refs = tuple(str(entry[key]) for key in ("label", "id") if key in entry)
        entry = entry.get("raw") or entry.get("id")
    if not isinstance(entry, str):
        raise Left("a prompt that is no text")
    if "\n" in entry or not (
        entry.startswith("file://") or re.fullmatch(r"[\w./*-]+\.(txt|json|ya?ml|md|js|py)", entry)
    ):
        if entry.startswith(("exec:", "python:", "langfuse://", "portkey://", "helicone://")):
            raise Left(f"a prompt of {entry.partition(':')[0]}")
        yield (*refs, entry), entry, ""
        return
    for path in files.find(base, entry):
        if path.suffix not in (".txt", ".md", ".json", ".yaml", ".yml"):
            raise Left(f"{path.name}: a prompt in a file of this kind")
        text = files.read(path)
        parts = re.split(r"^---$\n?", text, flags=re.MULTILINE) if path.suffix in (".txt", ".md") else [text]
        for part in parts:
            if part.strip():
                yield (*refs, entry, path.name), part.strip(), path.name


def _providers(work: Work) -> None:
    given = work.config.get("providers", work.config.get("targets"))
    for entry in given if isinstance(given, list) else [given]:
        provider = provider_of(entry, work.base)
        taken = [p.alias for p in work.providers]
        if provider.alias in taken:
            provider = replace(provider, alias=f"{provider.alias}-{len(taken) + 1}")
        work.providers.append(provider)
        if provider.settings:
            work.models[provider.alias] = provider.settings
        if provider.sent_to:
            work.report.add(f"address of {provider.ref}", "carried", provider.sent_to)
        if provider.tools:
            work.report.add(f"tools of {provider.ref}", "carried", "they stand with the prompt")
        if provider.settings and "temperature" not in provider.params:
            note = (
                "promptfoo sends temperature 0; here the provider's own default holds unless the suite says otherwise"
            )
            work.report.add(f"model {provider.ref}", "approximated", note)
        else:
            work.report.add(f"model {provider.ref}", "carried")


def _tests(work: Work) -> None:
    default = work.config.get("defaultTest") or {}
    if isinstance(default, str):
        default = {**files.load(files.find(work.base, default)[0])}
    shared = {n: files.value_of(v, work.base, work.base) for n, v in (default.get("vars") or {}).items()}
    default = {**default, "vars": shared}
    given = list(files.tests_of(work.config.get("tests"), work.base, work.generate)) + list(_scenarios(work))
    count = 0
    for number, test in enumerate(given or [{"vars": {}, "_base": work.base}], 1):
        merged = {**default, **test}
        for key in ("vars", "options", "metadata"):
            own, below = test.get(key) or {}, default.get(key) or {}
            if isinstance(own, str) and key == "vars":
                own = {k: v for p in files.find(test["_base"], own, work.base) for k, v in files.load(p).items()}
            merged[key] = {**below, **own}
        merged["assert"] = [*(default.get("assert") or []), *(test.get("assert") or [])]
        try:
            for row, scorers in _expanded(work, merged):
                count += 1
                earlier = _earlier(work, row, merged["metadata"].get("conversationId"))
                _put(work, {"_id": f"t{count}", **row, **earlier}, scorers, merged.get("threshold"))
        except Left as why:
            work.report.add(f"test {number}", "left", str(why))
        if count > MOST_CASES:
            raise Left(f"over {MOST_CASES:,} cases")
    work.report.add(f"{count} tests", "carried")
    _allow_missing(work)


def _scenarios(work: Work) -> Iterator[dict[str, Json]]:
    """Each set of variables of a scenario with each of its tests."""
    for scenario in work.config.get("scenarios") or []:
        if not isinstance(scenario, dict) or set(scenario) - {"config", "tests", "description"}:
            raise Left("a scenario with more than config and tests")
        settings = list(files.tests_of(scenario.get("config"), work.base))
        tests = list(files.tests_of(scenario.get("tests"), work.base)) or [{"_base": work.base}]
        for outer, inner in itertools.product(settings, tests):
            merged = {**outer, **inner}
            merged["vars"] = {**(outer.get("vars") or {}), **(inner.get("vars") or {})}
            merged["assert"] = [*(outer.get("assert") or []), *(inner.get("assert") or [])]
            yield merged


def _expanded(work: Work, test: Mapping[str, Json]) -> Iterator[tuple[dict[str, Json], list[Scored]]]:
    """The case's fields and the scorers, for each combination of the variables that are lists of texts."""
    if odd := [key for key in test if key not in TEST_KEYS]:
        raise Left(f"'{odd[0]}' of a test")
    grading = _options(work, test.get("options") or {})
    given = dict(test["vars"])
    asserted = list(_assertions(work, test["assert"]))
    about_turns = any(entry["type"] == CONVERSATION for entry in asserted)
    turns = given.pop("_conversation", None) if about_turns else None
    values = {name: files.value_of(value, test["_base"], work.base) for name, value in given.items()}
    axes = {name: v if isinstance(v, list) and v and isinstance(v[0], str) else [v] for name, v in values.items()}
    for combination in itertools.product(*axes.values()):
        given = dict(zip(axes, combination, strict=True))
        inputs = {n: _value(work, n, v) for n, v in given.items() if v is not None}
        talk = (turns or _talk(work, inputs)) if about_turns else None
        scorers = _scorers(work, asserted, inputs, grading, talk)
        row = {(f"var_{n}" if n in ROLES else n): v for n, v in inputs.items()}
        if test.get("description"):
            row["_description"] = str(test["description"])
        yield row | {n: v for s in scorers for n, v in s.fields.items()}, scorers


def _scorers(
    work: Work, asserted: Sequence[dict[str, Json]], inputs: Mapping[str, Json], grading: Grading, turns: Json
) -> list[Scored]:
    """The scorers of a test, those that compare variants last."""
    around = Around(
        work.base,
        f"evals/scripts/{work.name}",
        grading,
        turns,
        [tool for provider in work.providers for tool in provider.tools],
    )
    found: list[Scored] = []
    for number, entry in enumerate(sorted(asserted, key=lambda e: e["type"] == "max-score"), 1):
        filled = {**entry, "value": _filled(entry["value"], inputs)} if "value" in entry else dict(entry)
        if entry["type"] == "max-score":
            if len(work.prompts) * len(work.providers) < 2:
                raise Left("assertion max-score with one output to choose from")
            made = [best_of(filled, found)]
        else:
            made = scorers_of(filled, number, around)
        for one in made:
            same = sum(re.sub(r"-\d+$", "", s.name) == one.name for s in found)
            found.append(replace(one, name=f"{one.name}-{same + 1}") if same else one)
            work.report.add(f"assertion {entry['type']}", "approximated" if one.note else "carried", one.note)
    return found


def _talk(work: Work, inputs: Mapping[str, Json]) -> Json:
    """The conversation of a test that gives none: the prompt, and the answer to come."""
    if len(work.prompts) != 1 or len(MARKER.findall(work.prompts[0].body)) != 1:
        raise Left(f"assertion {CONVERSATION} without a conversation, of several prompts or of a chat")
    return [{"input": str(_filled(work.prompts[0].body.removeprefix("user:\n").strip(), inputs))}]


def _earlier(work: Work, row: Mapping[str, Json], conversation: Json) -> dict[str, Json]:
    """The user's turns before a test's own, where the prompt goes on with them."""
    if work.talk is None or work.talk.turn is None:
        return {}
    said = work.conversations.setdefault(str(conversation), [])
    before = list(said)
    text = _filled(work.talk.turn, {name.removeprefix("var_"): value for name, value in row.items()})
    said.append({"role": "user", "content": text})
    return {EARLIER: before}


def _options(work: Work, options: Mapping[str, Json]) -> Grading:
    """How a test's options have it graded; raises Left for what changes outputs."""
    grading = Grading()
    for name, value in options.items():
        if name == "provider":
            text = value.get("text") if isinstance(value, dict) and "id" not in value else value
            provider = provider_of(text, work.base)
            grading = replace(grading, judge=f"judge-{provider.alias}")
            work.models[grading.judge] = provider.settings or {"engine": "echo"}
        elif name == "rubricPrompt":
            text = files.read(files.find(work.base, value)[0]) if str(value).startswith("file://") else value
            grading = replace(grading, rubric=grading_prompt(text))
        elif not (name == "disableVarExpansion" and value is False):
            raise Left(f"'{name}' of a test's options")
    return grading


def _assertions(work: Work, given: Json) -> Iterator[dict[str, Json]]:
    templates = work.config.get("assertionTemplates") or {}
    for entry in given:
        if isinstance(entry, dict) and "$ref" in entry:
            name = str(entry["$ref"]).removeprefix("#/assertionTemplates/")
            entry = {**templates.get(name, {}), **{k: v for k, v in entry.items() if k != "$ref"}}  # noqa: PLW2901
        if not isinstance(entry, dict) or "type" not in entry:
            raise Left("an assertion without a type")
        yield entry


def _value(work: Work, name: str, value: Json) -> Json:
    """A variable's value as Jinja writes it like Nunjucks; a chat history as messages."""
    if any(name in prompt.histories for prompt in work.prompts):
        return _history(name, value)
    if isinstance(value, bool):
        raise Left(f"variable {name}: yes or no is written otherwise in Jinja")
    if isinstance(value, float) and value == int(value):
        return int(value)
    if isinstance(value, (list, dict)):
        raise Left(f"variable {name}: a list or a mapping as a value")
    if isinstance(value, str) and ("{{" in value or "{%" in value):
        raise Left(f"variable {name}: it holds a template")
    return value


def _history(name: str, value: Json) -> Json:
    turns = [pair for turn in value or [] for pair in (turn.items() if isinstance(turn, dict) else [("", None)])]
    if any(role not in ("system", "user", "assistant") or not isinstance(text, str) for role, text in turns):
        raise Left(f"variable {name}: no chat history of texts")
    return [{"role": role, "content": text} for role, text in turns]


def _filled(value: Json, inputs: Mapping[str, Json]) -> Json:
    """An assertion's value with the test's variables in it."""
    if isinstance(value, list):
        return [_filled(item, inputs) for item in value]
    if not isinstance(value, str) or ("{{" not in value and "{%" not in value):
        return value
    try:
        return render_template(to_jinja(value), {}, inputs, strict=False)
    except PromptError as error:
        raise Left(f"the template in an assertion: {error.message}") from error


def _put(work: Work, row: dict[str, Json], scorers: list[Scored], threshold: Json) -> None:
    """Adds a case to the group of tests that are scored alike."""
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, (int, float))):
        raise Left("a threshold that is no number")
    key = json.dumps([[s.name, s.entry, s.weight] for s in scorers] + [threshold], sort_keys=True)
    work.groups.setdefault(key, Group(scorers, threshold)).rows.append(row)


def _allow_missing(work: Work) -> None:
    """A prompt whose variables some test lacks renders them as nothing, as Nunjucks does."""
    for prompt, group in itertools.product(work.prompts, work.groups.values()):
        try:
            used = variables_used(prompt.body)
        except PromptError as error:
            raise Left(f"a prompt that Jinja can't read: {error.message}") from error
        for row in group.rows:
            if used - {name.removeprefix("var_") for name in row}:
                prompt.lenient = True
                work.report.add("variables that a test lacks", "approximated", "they render as nothing, as there")


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "imported"


_STEPS = {"keys": _keys, "prompt": _prompts, "provider": _providers, "test": _tests}
