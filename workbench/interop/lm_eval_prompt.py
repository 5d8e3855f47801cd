"""What a task of lm-evaluation-harness shows a model: description, few shots, the document, composed as there.

https://github.com/EleutherAI/lm-evaluation-harness, `lm_eval/api/task.py` (fewshot_context, build_qa_turn, doc_to_*)
and `api/samplers.py`. A template is Jinja, or the name of a field.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from workbench.define.template import render_template
from workbench.errors import PromptError
from workbench.interop.lm_eval_file import Doc, Task
from workbench.interop.report import Left
from workbench.records import Json

SEED = 1234
"""The harness's `fewshot_random_seed`."""
FEWSHOT_KEYS = {"sampler", "split", "samples", "doc_to_text", "doc_to_choice", "doc_to_target", "fewshot_delimiter",
                "target_delimiter"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """A task's templates, for documents or for few shots."""

    text: Json
    target: Json
    choice: Json
    target_delimiter: str
    fewshot_delimiter: str
    fields: Collection[str]
    """Of the documents that are asked: a template that is one of them is that field's value."""
    places: Task

    def text_of(self, doc: Doc) -> str:
        found = doc.values.get(self.text) if self.text in self.fields else self._rendered(self.text, doc, "doc_to_text")
        if not isinstance(found, str):
            raise Left(f"doc_to_text gives {found!r}, which is no text", doc.place)
        if found.isdigit() and self.choice is not None and self.text not in self.fields:
            raise Left("doc_to_text gives a number: a task with several inputs for one answer", doc.place)
        return found

    def target_of(self, doc: Doc) -> Json:
        """A text, the position of a choice, or a list of such."""
        if not isinstance(self.target, str):
            return self.target
        if self.target in self.fields:
            return doc.values.get(self.target)
        found = self._rendered(self.target, doc, "doc_to_target")
        if found.isdigit() and self.choice is not None:
            return int(found)
        if len(found) >= 2 and found[0] == "[" and found[-1] == "]":
            try:
                return ast.literal_eval(found)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return found
        return found

    def choices_of(self, doc: Doc) -> list[str]:
        found = self.choice
        if isinstance(found, str) and found in self.fields:
            found = doc.values.get(found)
        elif isinstance(found, str):
            written = self._rendered(found, doc, "doc_to_choice")
            try:
                found = ast.literal_eval(written)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                raise Left(f"doc_to_choice gives '{written[:60]}', which is no list", doc.place) from error
        found = list(found.values()) if isinstance(found, dict) else found
        if not isinstance(found, list) or not found or not all(isinstance(c, str) and c for c in found):
            raise Left("doc_to_choice gives no list of texts", doc.place)
        return found

    def shot(self, doc: Doc) -> str:
        """A document with its answer, as plain text."""
        answer = self._answer(doc)
        if answer is None:
            return self.text_of(doc)
        return self.text_of(doc) + self.target_delimiter + answer + self.fewshot_delimiter

    def turns(self, doc: Doc) -> list[dict[str, Json]]:
        """A document and its answer as messages, as for a chat template."""
        asked, answer = {"role": "user", "content": self.text_of(doc)}, self._answer(doc)
        return [asked] if answer is None else [asked, {"role": "assistant", "content": answer}]

    def _answer(self, doc: Doc) -> str | None:
        """Of a few-shot document; None where it has none."""
        target = self.target_of(doc)
        if target is None or target == "":
            return None
        if isinstance(target, int) and self.choice is not None:
            choices = self.choices_of(doc)
            answer: Json = choices[target] if -len(choices) <= target < len(choices) else None
        else:
            answer = target[0] if isinstance(target, list) and target else target
        if not isinstance(answer, str):
            raise Left(f"the answer of a few-shot document is {answer!r}, which is no text", doc.place)
        return answer

    def _rendered(self, template: Json, doc: Doc, key: str) -> str:
        if not isinstance(template, str):
            raise Left(f"{key} is no text", self.places.place(key))
        try:
            return render_template(template + "\n", {}, doc.values)  # Jinja drops a newline at the end
        except PromptError as error:
            raise Left(f"{key}: {error.message} ({doc.place})", self.places.place(key)) from error


def templates_of(task: Task, fields: Collection[str], few: bool) -> Shown:
    """The templates for documents, or with `few` those for few shots; raises Left where one is missing."""
    own = _fewshot_config(task) if few else {}
    for key in ("doc_to_text", "doc_to_target"):
        if task.get(key) is None and key not in own:
            raise Left(f"it has no {key}", task.path.name)
    told = {key: own.get(key, task.get(key)) for key in ("doc_to_text", "doc_to_target", "doc_to_choice")}
    target = own.get("target_delimiter", task.get("target_delimiter", " "))
    between = own.get("fewshot_delimiter", task.get("fewshot_delimiter", "\n\n"))
    if not isinstance(target, str) or not isinstance(between, str):
        raise Left("a delimiter that is no text", task.place("target_delimiter"))
    return Shown(told["doc_to_text"], told["doc_to_target"], told["doc_to_choice"], target, between, fields, task)


def _fewshot_config(task: Task) -> dict[str, Json]:
    given = task.get("fewshot_config") or {}
    if not isinstance(given, dict) or (odd := given.keys() - FEWSHOT_KEYS):
        told = f"'{min(odd)}' of fewshot_config" if isinstance(given, dict) else "fewshot_config"
        raise Left(told, task.place("fewshot_config"))
    return {key: value for key, value in given.items() if value is not None}


def fewshot_split(task: Task) -> str | None:
    """The split that few shots come from; None: they stand in the task itself."""
    own = _fewshot_config(task)
    named = own.get("split") or task.get("fewshot_split")
    if named is None and isinstance(own.get("samples"), list):
        return None
    names = (named, *(task.get(f"{kind}_split") for kind in ("training", "validation", "test")))
    return next(str(name) for name in names if name is not None)


def written_shots(task: Task) -> list[Doc]:
    """The few shots that stand in the task; raises Left."""
    given = _fewshot_config(task)["samples"]
    place = task.place("fewshot_config")
    if not all(isinstance(sample, dict) for sample in given):
        raise Left("a few-shot sample that is no mapping", place)
    return [Doc(sample, place) for sample in given]


def draw_shots(task: Task, count: int, pool: Sequence[Doc], docs: Sequence[Doc]) -> Iterator[list[Doc]]:
    """For each document its few shots: the first, or drawn as the harness draws them with its own seed.

    A document is never its own few shot where both come from the test split (or, as there, where neither the split of
    few shots nor a test split is named)."""
    own = _fewshot_config(task)
    sampler = own.get("sampler", "default")
    if sampler not in ("default", "first_n"):
        raise Left(f"the sampler '{sampler}'", task.place("fewshot_config"))
    apart = (own.get("split") or task.get("fewshot_split")) == task.get("test_split")
    rng = random.Random(SEED)  # noqa: S311  the harness's own draw
    for doc in docs:
        if sampler == "first_n":
            found = [d for d in pool if not apart or d.values != doc.values][:count]
        else:
            wanted = count + 1 if apart else count
            drawn = rng.sample(list(pool), wanted) if wanted <= len(pool) else []
            found = [d for d in drawn if not apart or d.values != doc.values][:count]
        if len(found) < count:
            raise Left(f"{count} few shots of {len(pool)} documents, one of them perhaps the one asked", doc.place)
        yield found


def as_template(given: Json, fields: Collection[str]) -> str:
    """A template as Jinja, where it may be the name of a field."""
    return "{{ " + str(given) + " }}" if given in fields else str(given or "")


def expected_of(shown: Shown, doc: Doc) -> Json:
    """The right choice, or for free text the right answer; a list where several are right. Raises Left."""
    target = shown.target_of(doc)
    if shown.choice is None:
        return _free(target, doc)
    choices = shown.choices_of(doc)
    found = [_chosen(one, choices, doc) for one in (target if isinstance(target, list) else [target])]
    if not found:
        raise Left("doc_to_target gives an empty list", doc.place)
    return found if isinstance(target, list) else found[0]


def _free(target: Json, doc: Doc) -> Json:
    if isinstance(target, list):
        if not target or not all(isinstance(one, str) for one in target):
            raise Left("doc_to_target gives a list that holds more than texts", doc.place)
        return target
    if target is None or isinstance(target, Mapping):
        raise Left(f"doc_to_target gives {'nothing' if target is None else 'a mapping'}", doc.place)
    return str(target)


def _chosen(target: Json, choices: list[str], doc: Doc) -> str:
    if isinstance(target, str) and target in choices:
        return target
    if isinstance(target, int) and 0 <= target < len(choices):
        return choices[target]
    raise Left(f"doc_to_target gives {target!r}, which is none of the {len(choices)} choices", doc.place)
