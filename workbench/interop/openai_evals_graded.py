"""ModelBasedClassify of OpenAI's evals: a graded spec (`registry/modelgraded`) as a rubric and the scorer `classified`.

What the judge is shown is composed as there (`evals/elsuite/modelgraded/classify.py` and `classify_utils.py`), but for
the sentences by which an `eval_type` asks for a choice: they ask for the same form in words of our own.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.define.roles import trim_blank_lines
from workbench.interop.literal import literal
from workbench.interop.openai_evals_files import Sample, Spec, graded_spec, registry_of
from workbench.interop.report import Left
from workbench.records import Json

GRADED = "evals.elsuite.modelgraded.classify:ModelBasedClassify"
ARGS = {"samples_jsonl", "modelgraded_spec", "modelgraded_spec_args", "sample_kwargs", "eval_kwargs", "eval_type",
        "match_fn", "multicomp_n", "metaeval"}  # fmt: skip
KEYS = {"prompt", "choice_strings", "input_outputs", "eval_type", "choice_scores", "output_template"}
MATCH_FNS = ("include", "exact", "endswith", "starts_or_endswith")
SENT = {"max_tokens": 1024, "temperature": 0}
"""What is sent for an answer and for a verdict, where nothing else is said."""
ASKS = {
    "classify": "Reply with nothing but the right one of {choices}, without quotes or punctuation.",
    "classify_cot": "Write the right one of {choices} on the first line, without quotes or punctuation. Give your "
    "reasons, step by step, on the lines below it.",
    "cot_classify": "Think it through first, step by step, and name no choice before you have. Then write the right "
    "one of {choices}, without quotes or punctuation, on a line of its own, and once more on the last line."
    "\n\nReasoning:",
    "cot_classify_jp": "まず順を追って考え、それまでは答えを書かないでください。次に、{choices}のうち正しいものを一つ、"
    "引用符や句読点を付けずに単独の行に書き、最後の行にもう一度書いてください。\n\n推論：",
}
"""By eval_type the words that ask for a choice."""


@dataclass(frozen=True, slots=True)
class Grading:
    """How an eval's answers are graded."""

    key: str
    """The sample's field that is asked."""
    params: Mapping[str, Json]
    """… with which parameters."""
    scorers: list[Json]
    files: Mapping[str, str]
    notes: tuple[str, ...]

    def text(self, given: Json) -> str:
        """What the judge is shown of the input: braces doubled, as evals shows them."""
        if isinstance(given, str):
            return _doubled(given)
        if len(given) == 1:
            return _doubled(given[0]["content"])
        heads = {"system": "", "example_user": "User: ", "example_assistant": "Assistant: "}
        lines = []
        for message in given:
            who = message.get("name", message["role"])
            lines.append(f"{heads.get(who, who.capitalize() + ': ')}{_doubled(message['content'])}\n")
        return "".join(lines).lstrip()


def read_grading(spec: Spec, path: Path, samples: list[Sample], rubric: str, judge: str) -> Grading:
    """The grading of an eval in the registry file `path`; raises Left."""
    args = spec.args
    if odd := args.keys() - ARGS:
        raise Left(f"'{min(odd)}' of the args of {spec.name}", spec.place)
    if args.get("metaeval") or args.get("multicomp_n", 1) != 1:
        raise Left("metaeval" if args.get("metaeval") else "several answers in one verdict (multicomp_n)", spec.place)
    graded, place = graded_spec(registry_of(path), str(args.get("modelgraded_spec")))
    if odd := graded.keys() - KEYS:
        raise Left(f"'{min(odd)}' of a graded spec", place)
    outputs = graded.get("input_outputs")
    if not isinstance(outputs, dict) or len(outputs) != 1:
        raise Left("a verdict on several answers (input_outputs)", place)
    ((key, output),) = outputs.items()
    for sample in samples:
        if output in sample.values:
            raise Left(f"a sample with an answer of its own in '{output}'", sample.place)
    choices = _choices(graded, place)
    names = {key: "input_text", str(output): "output"}
    extra = args.get("modelgraded_spec_args") or {}
    known = set.intersection(*(set(sample.values) for sample in samples))
    messages = _asked(graded, args.get("eval_type"), choices, place)
    bodies = []
    for message in messages:
        body = _template(message["content"], names, extra, known, place)
        bodies.append(f"{message['role']}:\n{body}\n")
    trimmed = any(trim_blank_lines(m["content"]) != m["content"] for m in messages)
    notes = ["blank lines at the ends of a message are removed"] if trimmed else []
    if kind := args.get("eval_type"):
        notes.append(f"eval_type {kind} asks for a choice in words of the workbench's own")
    return Grading(
        key=str(key),
        params=_sent(args.get("sample_kwargs"), spec),
        scorers=_scorers(graded, args, choices, (rubric, judge, _sent(args.get("eval_kwargs"), spec)), place),
        files={f"prompts/{rubric}.prompty": "\n".join(bodies)},
        notes=tuple(notes),
    )


def _choices(graded: Mapping[str, Json], place: str) -> list[str]:
    given = graded.get("choice_strings")
    found = list(given) if isinstance(given, (str, list)) and not str(given).startswith("from_n") else []
    if not found or not all(isinstance(c, str) and c for c in found):
        raise Left(f"the choice_strings '{given}'", place)
    if any(mark in c for c in found for mark in string.punctuation):
        raise Left("choice_strings with punctuation, which evals refuses, too", place)
    return list(dict.fromkeys(found))


def _asked(graded: Mapping[str, Json], kind: Json, choices: list[str], place: str) -> list[dict[str, str]]:
    """The messages to the judge, as templates of Python's `str.format`, with the words that ask for a choice."""
    prompt = graded.get("prompt")
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(messages, list) or not messages:
        raise Left("a graded spec without a prompt", place)
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str) or len(message) != 2:
            raise Left("a message of a graded spec that is not role and text", place)
        if message.get("role") not in ("system", "user", "assistant"):
            raise Left(f"a message of the role '{message.get('role')}'", place)
    if kind is None:
        return messages
    if kind not in ASKS:
        raise Left(f"the eval_type '{kind}'", place)
    asks = ASKS[str(kind)].replace("{choices}", " or ".join(f'"{choice}"' for choice in choices))
    return [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + "\n\n" + asks}]


def _template(text: str, names: Mapping[str, str], extra: Json, known: set[str], place: str) -> str:
    """A template of `str.format` as Jinja: names of the answer, the input, and fields that every sample has."""
    parts = []
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as error:
        raise Left(f"the prompt of a graded spec: {error}", place) from error
    for words, name, form, conversion in pieces:
        parts.append(literal(words))
        if name is None:
            continue
        if form or conversion or not name.isidentifier():
            raise Left(f"'{{{name}}}' in a graded spec", place)
        if isinstance(extra, dict) and name in extra:
            parts.append(literal(str(extra[name])))
        elif name in names or name in known:
            parts.append("{{ " + names.get(name, name) + " }}")
        else:
            raise Left(f"'{{{name}}}' in a graded spec, which not every sample has", place)
    return "".join(parts)


def _sent(given: Json, spec: Spec) -> dict[str, Json]:
    told = given or {}
    if not isinstance(told, dict) or (odd := told.keys() - SENT.keys()):
        raise Left(f"'{min(odd)}' of the sampling of {spec.name}" if isinstance(told, dict) else "kwargs", spec.place)
    return {**SENT, **told}


def _scorers(
    graded: Mapping[str, Json], args: Mapping[str, Json], choices: list[str], asked: tuple[str, str, Json], place: str
) -> list[Json]:
    """The choice as a label, and, where choices have scores, the score: one request for both."""
    kind, match = graded.get("eval_type") or args.get("eval_type"), args.get("match_fn") or "starts_or_endswith"
    if not isinstance(kind, str):
        raise Left("no eval_type, without which evals can't read a verdict", place)
    if match not in MATCH_FNS:
        raise Left(f"the match_fn '{match}'", place)
    rubric, judge, params = asked
    settings: dict[str, Json] = {"rubric": rubric, "model": judge, "choices": choices}
    settings |= {"last": True} if kind.startswith("cot_classify") else {}
    settings |= {"match": match} if match != "starts_or_endswith" else {}
    settings |= {"params": params} if params != SENT else {}
    scorers: list[Json] = [{"classified": settings, "as": "choice"}]
    scores = graded.get("choice_scores")
    if scores is None:
        return scorers
    try:
        numbers = {c: float(c) for c in choices} if scores == "from_strings" else {c: float(scores[c]) for c in choices}
    except (KeyError, TypeError, ValueError) as error:
        raise Left("choice_scores without a number for each choice", place) from error
    return [{"classified": {**settings, "scores": numbers}, "as": "score"}, *scorers]


def _doubled(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
