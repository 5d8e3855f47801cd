"""Assertions of promptfoo that a model judges: https://www.promptfoo.dev/docs/configuration/expected-outputs/model-graded/.

Without a grading prompt of its own an assertion gets a rubric in our words, and the judge says pass or fail. A
grading prompt (`rubricPrompt`) is kept as it is: promptfoo has it answer in JSON, which the scorer `graded` reads.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.interop.nunjucks import chat_body, text_prompt
from workbench.interop.promptfoo_scored import Scored
from workbench.interop.report import Left
from workbench.records import Json

RUBRICS = {
    "llm-rubric": "You grade an answer by a criterion.\n\nAnswer:\n{{ output }}\n\nCriterion:\n{{ %s }}\n\n"
    "Does the answer meet the criterion? Say pass or fail.",
    "model-graded-closedqa": "You check a submission against a criterion.\n\nSubmission:\n{{ output }}\n\n"
    "Criterion:\n{{ %s }}\n\nDoes the submission meet the criterion? Say pass or fail.",
    "factuality": "You compare the facts of a submission with an expert's answer; style does not count.\n\n"
    "Expert's answer:\n{{ %s }}\n\nSubmission:\n{{ output }}\n\nDoes the submission agree with the expert's answer, "
    "also where it says less or more? Say pass or fail.",
}
"""The rubric of each kind, with the field that holds its criterion: our words for what promptfoo asks."""
CONVERSATION = "conversation-relevance"
TURNS = (
    "You read the last turns of a conversation.\n\n{% for turn in turns %}The user said:\n{{ turn.input }}\n\n"
    "The assistant answered:\n{{ turn.output }}\n\n{% endfor %}"
    "Is the assistant's last answer relevant to the user's last words, given what was said before? Say yes or no."
)
WINDOW = 5
"""promptfoo's default windowSize."""


@dataclass(frozen=True, slots=True)
class Grading:
    """How a test's answers are graded."""

    judge: str = "judge"
    """The alias of the model."""
    rubric: str | None = None
    """The body of a grading prompt of the config's own."""


def grading_prompt(given: Json) -> str:
    """The body of a `rubricPrompt`: text, or messages, also as JSON text; raises Left."""
    if isinstance(given, str) and given.lstrip().startswith("["):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise Left("a rubricPrompt whose JSON is made by a template") from error
    if isinstance(given, list):
        return chat_body(given)
    if not isinstance(given, str) or not given.strip():
        raise Left("a rubricPrompt that is neither text nor messages")
    return text_prompt(given.strip())


def judged_by(kind: str, given: Mapping[str, Json], number: int, grading: Grading) -> list[Scored] | None:
    """The scorers of an assertion that a model judges; None for other kinds; raises Left."""
    if kind not in RUBRICS:
        return None
    if given.get("provider") is not None:
        raise Left(f"assertion {kind}: a provider of its own")
    value, field = given.get("value"), f"assert_{number}"
    if grading.rubric is not None:
        return _graded(kind, value, given.get("threshold"), field, grading)
    if not isinstance(value, str) or not value.strip():
        raise Left(f"assertion {kind} without a text to judge by")
    if given.get("threshold") is not None:
        raise Left(f"assertion {kind}: a threshold on the judge's own score")
    rubric = f"judges/{kind}-{number}"
    settings = {"rubric": rubric, "model": grading.judge, "scale": ["pass", "fail"], "passes": ["pass"]}
    files = {f"prompts/{rubric}.prompty": f"user:\n{RUBRICS[kind] % field}\n"}
    note = "the rubric is in our words, and the judge says pass or fail"
    return [Scored({"judge": settings}, {field: value}, note, files, grading.judge)]


def _graded(kind: str, value: Json, threshold: Json, field: str, grading: Grading) -> list[Scored]:
    """Pass or fail, and the score beside it: one request for both."""
    if kind != "llm-rubric" or grading.rubric is None:
        raise Left(f"assertion {kind} with a rubricPrompt")
    if not isinstance(value, (str, type(None))):
        raise Left(f"assertion {kind} with this value")
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, (int, float))):
        raise Left(f"assertion {kind}: a threshold that is no number")
    body = re.sub(r"(\{[{%].*?)\brubric\b", rf"\g<1>{field}", grading.rubric)
    rubric = f"judges/rubric-{hashlib.sha256(body.encode()).hexdigest()[:8]}"
    files = {f"prompts/{rubric}.prompty": f"---\ntemplate: {{strict: false}}\n---\n{body}"}
    settings = {"rubric": rubric, "model": grading.judge}
    bound = {} if threshold is None else {"at_least": threshold}
    fields = {field: value or ""}
    return [
        Scored({"graded": {**settings, **bound}}, fields, "", files, grading.judge),
        Scored({"graded": {**settings, "give": "score"}}, fields, "", files, grading.judge, aside=True),
    ]


def relevance(given: Mapping[str, Json], number: int, grading: Grading, turns: Json) -> Scored:
    """The scorer of `conversation-relevance` about the turns; raises Left."""
    config = given.get("config") or {}
    window = config.get("windowSize", WINDOW) if isinstance(config, dict) else None
    if isinstance(window, bool) or not isinstance(window, int) or window < 1 or config.keys() - {"windowSize"}:
        raise Left(f"assertion {CONVERSATION}: its config")
    if given.get("provider") is not None or given.get("value") is not None or grading.rubric is not None:
        raise Left(f"assertion {CONVERSATION} with a value, a provider or a rubricPrompt of its own")
    threshold = given.get("threshold") or 0
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        raise Left(f"assertion {CONVERSATION}: its threshold is no number from 0 to 1")
    for turn in turns if isinstance(turns, list) else [None]:
        texts = list(turn.values()) if isinstance(turn, dict) and turn.keys() <= {"input", "output"} else [None]
        if "input" not in (turn or {}) or any(not isinstance(text, str) or "{{" in text for text in texts):
            raise Left(f"assertion {CONVERSATION}: a turn that is not {{input, output}}, both plain texts")
    field, rubric = f"assert_{number}", f"judges/{CONVERSATION}"
    settings: dict[str, Json] = {"rubric": rubric, "model": grading.judge, "turns": "{{ %s }}" % field}  # noqa: UP031
    settings |= {"window": window, "at_least": threshold}
    files = {f"prompts/{rubric}.prompty": f"user:\n{TURNS}\n"}
    note = "the rubric is in our words, and the judge says yes or no"
    return Scored({"conversation": settings}, {field: turns}, note, files, grading.judge)
