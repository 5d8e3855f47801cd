"""Tasks of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness, docs/task_guide.md) as suites:
multiple choice by log-likelihood and free text, without Python.

The prompt is raw text, as the harness sends it without a chat template, or for a chat what it sends with
`--apply_chat_template --fewshot_as_multiturn`: the description as a system message, few shots as turns, the document as
the user's message. Each document's is held against what `lm_eval_prompt` composes. Targets and choices are rendered
here, into the cases; a case's id is the harness's doc_id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from workbench.define.prompt import parse_prompt, render_prompt
from workbench.define.roles import trim_blank_lines
from workbench.define.yamlfile import write_yaml
from workbench.errors import PromptError
from workbench.interop.literal import expression, literal, unmarked
from workbench.interop.lm_eval_file import Doc, Task, read_split, read_task
from workbench.interop.lm_eval_prompt import (
    SEED,
    Shown,
    as_template,
    draw_shots,
    expected_of,
    fewshot_split,
    templates_of,
    written_shots,
)
from workbench.interop.lm_eval_scored import MOST_STOPS, choice_scorers, generation_params, text_scorers
from workbench.interop.report import Fate, Left, Report
from workbench.records import EMPTY, Json

KINDS = ("multiple_choice", "generate_until")
KNOWN = {
    "task", "dataset_path", "dataset_name", "dataset_kwargs", "training_split", "validation_split", "test_split",
    "fewshot_split", "output_type", "doc_to_text", "doc_to_target", "doc_to_choice", "description", "target_delimiter",
    "fewshot_delimiter", "fewshot_config", "num_fewshot", "metric_list", "generation_kwargs", "repeats", "filter_list",
}  # fmt: skip
NOT_MEASURED = {"tag", "task_alias", "metadata", "should_decontaminate", "doc_to_decontamination_query"}
"""Keys that change nothing of what is asked or how it is scored."""
OWN = {"_id": "id", "_expected": "expected", "_choices": "choices", "_shots": "few shots"}
"""Fields that the import adds to a document."""
RESERVED = ("id", "expected", "cluster", "tags", "messages")
"""Fields that would play a part as a case's; the document's are kept under another name."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the task leaves open."""

    data: Mapping[str, Path] = field(default_factory=lambda: EMPTY)
    """Split → file; the empty name: the split that is asked."""
    num_fewshot: int | None = None
    model: str = "echo"
    """The alias of the model that is asked."""
    chat: bool = False
    """Messages in place of raw text."""


@dataclass
class Work:
    """An import on its way."""

    task: Task
    report: Report
    options: Options
    name: str
    docs: list[Doc]
    shown: Shown
    fields: tuple[str, ...]
    shots: list[str] = field(default_factory=list)
    """For each document the text of its few shots."""
    turns: list[list[Json]] = field(default_factory=list)
    """The same as messages, for a chat; `shots` are empty then."""

    @property
    def choices(self) -> bool:
        return bool(self.task.get("output_type") == "multiple_choice")

    @property
    def lead(self) -> str:
        """What stands before a choice: nothing at the start of a message."""
        return "" if self.options.chat else self.shown.target_delimiter


def import_lm_eval_task(path: Path, options: Options) -> Report:
    """Prompt, data and suite of a task; the report tells why where it is refused."""
    report = Report(str(path))
    try:
        task = read_task(path)
        _check(task)
        work = _opened(task, report, options)
        _show(work, _drawn(work))
        prompt = _prompt(work)
        rows = _rows(work)
        _hold(work, prompt, rows)
        _write(work, prompt, rows)
    except Left as why:
        report.add(why.place or path.name, "left", str(why))
        report.files.clear()
    return report


def _check(task: Task) -> None:
    if isinstance(task.get("task"), list) or "group" in task.config:
        raise Left("a group of tasks; import each by itself", task.place("task"))
    for key, value in task.config.items():
        if key not in KNOWN | NOT_MEASURED and value is not False:
            raise Left(f"'{key}' has no counterpart", task.place(key))
    if task.get("output_type", "generate_until") not in KINDS:
        raise Left(f"the output_type '{task.get('output_type')}'", task.place("output_type"))
    if task.get("output_type") == "multiple_choice" and task.get("doc_to_choice") is None:
        raise Left("multiple_choice without doc_to_choice", task.place("output_type"))


def _opened(task: Task, report: Report, options: Options) -> Work:
    """The task with the documents that are asked."""
    split = task.get("test_split") or task.get("validation_split")
    if not isinstance(split, str):
        raise Left("it names neither a test_split nor a validation_split", task.path.name)
    given = {name or split: path for name, path in options.data.items()}
    docs = read_split(task, split, given)
    fields = tuple(docs[0].values)
    name = re.sub(r"[^\w.-]+", "-", str(task.get("task") or task.path.stem)).strip("-.") or "imported"
    source = given[split].name if split in given else f"the split {split} of {task.get('dataset_path')}"
    report.add(f"{len(docs)} documents", "carried", f"of {source}")
    ending = given[split].suffix.lower() if split in given else f".{task.get('dataset_path')}"
    if ending in (".csv", ".tsv"):
        report.add("cells of a table", "approximated", "a column of nothing but numbers is numbers, as pandas has it")
    if taken := [f for f in fields if f in OWN]:
        raise Left(f"a field '{taken[0]}', which an import writes itself", docs[0].place)
    return Work(task, report, replace(options, data=given), name, docs,
                templates_of(task, fields, few=False), fields)  # fmt: skip


def _drawn(work: Work) -> list[list[Doc]]:
    """Each document's few shots."""
    task, wanted = work.task, work.options.num_fewshot
    count = task.get("num_fewshot", 0) if wanted is None else wanted
    if task.get("num_fewshot") == 0 and wanted:
        raise Left("the task fixes num_fewshot at 0, and the harness ignores another number", task.place("num_fewshot"))
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise Left(f"num_fewshot '{count}'", task.place("num_fewshot"))
    if count == 0:
        return [[] for _ in work.docs]
    split = fewshot_split(task)
    pool = written_shots(task) if split is None else read_split(task, split, work.options.data)
    found = list(draw_shots(task, count, pool, work.docs))
    random = (task.get("fewshot_config") or {}).get("sampler", "default") == "default"
    how = f"drawn as the harness draws them with its seed, {SEED}" if random else "the first"
    work.report.add(f"{count} few shots", "carried", f"{how}, of {'the task' if split is None else split}")
    return found


def _show(work: Work, drawn: Sequence[Sequence[Doc]]) -> None:
    """Writes the few shots as text, or for a chat as messages."""
    few = templates_of(work.task, work.fields, few=True) if any(drawn) else work.shown
    if work.options.chat:
        work.shots = [""] * len(drawn)
        work.turns = [[turn for doc in docs for turn in few.turns(doc)] for docs in drawn]
    else:
        work.shots = ["".join(map(few.shot, docs)) for docs in drawn]


def _prompt(work: Work) -> str:
    """The prompt's file; raises Left."""
    text = _chat_prompt(work) if work.options.chat else _raw_prompt(work)
    try:
        parse_prompt(text)
    except PromptError as error:
        raise Left(f"the template: {error.message}", work.task.place("doc_to_text")) from error
    how = "as messages" if work.options.chat else "as raw text, without a chat template"
    work.report.add("description, few shots and doc_to_text", "carried", how)
    return text


def _chat_prompt(work: Work) -> str:
    """What stands before and after the few shots, which each case brings along as `messages`."""
    about, asked = (unmarked(as_template(work.task.get(k), work.fields)) for k in ("description", "doc_to_text"))
    return (f"system:\n{about}\n" if about else "") + f"user:\n{asked}\n"


def _raw_prompt(work: Work) -> str:
    task = work.task
    same = len(set(work.shots)) == 1
    asked = as_template(task.get("doc_to_text"), work.fields)
    trims = re.match(r"\{[{%#]-", asked)  # would take the blank lines before it away
    shots = "{{ _shots }}" if not same else expression(work.shots[0]) if trims else literal(work.shots[0])
    body = as_template(task.get("description"), work.fields) + shots + asked
    front = write_yaml({"model": {"apiType": "completion"}})
    return f"---\n{front}---\n{body}\n"


def _rows(work: Work) -> list[dict[str, Json]]:
    """A case for each document: its fields, and what is expected."""
    rows = []
    kinds = set()
    for number, (doc, shots) in enumerate(zip(work.docs, work.shots, strict=True)):
        expected = expected_of(work.shown, doc)
        kinds.add(isinstance(expected, list))
        row: dict[str, Json] = {"_id": str(number), "_expected": expected}
        if work.choices:
            choices = work.shown.choices_of(doc)
            if len(set(choices)) < len(choices):
                raise Left("two choices of a document are the same", doc.place)
            row["_choices"] = [work.lead + choice for choice in choices]
        if len(set(work.shots)) > 1:
            row["_shots"] = shots
        if any(work.turns):
            row["messages"] = work.turns[number]
        rows.append(row | {_kept(name): value for name, value in doc.values.items()})
    if len(kinds) > 1:
        raise Left("doc_to_target gives a list for some documents only", work.task.place("doc_to_target"))
    return rows


def _kept(name: str) -> str:
    return f"doc_{name}" if name in RESERVED else name


def _hold(work: Work, prompt: str, rows: Sequence[Mapping[str, Json]]) -> None:
    """Holds what the prompt says for each document against what the harness would; raises Left."""
    made = parse_prompt(prompt)
    about = Shown(as_template(work.task.get("description"), work.fields), "", None, "", "", (), work.task)
    trimmed = False
    for doc, row, shots in zip(work.docs, rows, work.shots, strict=True):
        try:
            messages = [(m.role, m.text) for m in render_prompt(made, {**row, **doc.values})]
        except PromptError as error:
            raise Left(f"{error.message} ({doc.place})", work.task.place("doc_to_text")) from error
        lead, asked = about.text_of(doc) if about.text else "", work.shown.text_of(doc)
        wanted = [("raw", lead + shots + asked)]
        if work.options.chat:
            wanted = [*([("system", lead)] if lead else []), ("user", asked)]
            trimmed = trimmed or messages != wanted
            wanted = [(role, trim_blank_lines(text)) for role, text in wanted]
        if messages != wanted:
            raise Left("the prompt is not what the harness would compose", doc.place)
    if trimmed:
        work.report.add("blank lines", "approximated", "at the ends of a message they are removed")


def _write(work: Work, prompt: str, rows: Sequence[Mapping[str, Json]]) -> None:
    task, name, files = work.task, work.name, work.report.files
    used = {asked.name for asked in parse_prompt(prompt).inputs} & set(RESERVED)
    cases: dict[str, Json] = {"file": f"data/{name}.jsonl", "id": "_id", "expected": "_expected"}
    if again := {field: _kept(field) for field in work.fields if field in used}:
        cases["inputs"] = dict(again)
    suite: dict[str, Json] = {"name": name, "stage": "evaluate", "prompts": [name], "models": [work.options.model]}
    if work.choices:
        scorers = choice_scorers(task, work.lead, isinstance(rows[0]["_expected"], list))
        suite |= {"answer": {"choices": "{{ _choices }}"}}
        work.report.add("doc_to_choice", *_joint(work))
    else:
        scorers = text_scorers(task)
        suite |= {"params": _params(work)}
        work.report.add("generation_kwargs", "carried", ", ".join(f"{k} {v}" for k, v in suite["params"].items()))
    if task.get("repeats", 1) != 1:
        work.report.add("repeats", "carried", "every filter takes the first answer: one is asked")
    files[f"prompts/{name}.prompty"] = prompt
    files[f"data/{name}.jsonl"] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    files[f"evals/{name}.yaml"] = write_yaml({**suite, "cases": cases, "scorers": scorers})
    work.report.add("metrics", "carried", ", ".join(str(scorer["as"]) for scorer in scorers))


def _params(work: Work) -> dict[str, Json]:
    params = generation_params(work.task, work.shown.fewshot_delimiter)
    if work.options.chat and len(stop := params.get("stop", ())) > MOST_STOPS:
        told = f"the first {MOST_STOPS} of {len(stop)} texts, as the harness sends them to hosted chat models"
        work.report.add("until", "approximated", told)
        params["stop"] = stop[:MOST_STOPS]
    return params


def _joint(work: Work) -> tuple[Fate, str]:
    """What becomes of choices where they meet the prompt: the harness cuts both into tokens together."""
    if work.options.chat:
        return "carried", "by log-likelihood, each as the beginning of the answer, without the target_delimiter"
    delimited = work.shown.target_delimiter[:1].isspace()
    ends = any(work.shown.text_of(doc)[-1:].isspace() for doc in work.docs)
    if delimited and not ends:
        return "carried", "by log-likelihood, each behind the target_delimiter"
    return "approximated", "a choice's tokens are its own, where the harness may join its first letters to the prompt's"
