"""Scorers of how an answer ended, of valid tool calls, of scripts, and of grades in JSON."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_scorers_code import needs_sandbox

from workbench.errors import ScorerError, SuiteError
from workbench.records import Case, Output, ScorerSpec
from workbench.scorers.base import Answered
from workbench.scorers.best import Best
from workbench.scorers.build import build_scorer
from workbench.scorers.graded import read_grade


def judged(scorer: str, output: Output, inputs=None, root: Path = Path(), rivals=None, **settings):
    made = build_scorer(ScorerSpec(scorer, scorer, settings), root, "evals/x.yaml")
    others = {"rivals": lambda: rivals} if rivals is not None else {}
    return made(Answered(output, Case("c1", inputs or {}), None, **others))


@pytest.mark.parametrize(("ended", "value"), [("tool_calls", 1), ("stop", 0), ("length", 0)])
def test_finish_reason(ended: str, value: float) -> None:
    assert judged("finish_reason", Output("r", "x", ended), reason="tool_calls").value == value


TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {
    "type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"], "additionalProperties": False}}}]  # fmt: skip


@pytest.mark.parametrize(
    ("calls", "value", "reason"),
    [
        ([("look", '{"at": "it"}')], 1, "calls look"),
        ([("look", '{"at": 1}')], 0, "$.at"),
        ([("look", "{}")], 0, "'at' is a required property"),
        ([("look", "not JSON")], 0, "no JSON mapping"),
        ([("look", '{"at": "it"}'), ("hear", "{}")], 0, "there is no tool 'hear'"),
        ([], 0, "calls no tool"),
    ],
)
def test_valid_tool_calls(calls: list, value: float, reason: str) -> None:
    made = tuple({"function": {"name": name, "arguments": arguments}} for name, arguments in calls)
    found = judged("valid_tool_calls", Output("r", "", "tool_calls", tool_calls=made), tools=TOOLS)
    assert (found.value, reason in found.reason) == (value, True), found.reason


@needs_sandbox
@pytest.mark.parametrize(
    ("settings", "value", "reason"),
    [
        ({"code": "output == 'hi'"}, 1, "says True"),
        ({"code": "output == 'ho'"}, 0, "says False"),
        ({"code": "context['vars']['n'] == 3 and context['config']['m'] == [1, None]", "config": {"m": [1, None]}}, 1, ""),
        ({"code": "0.4", "at_least": 0.5}, 0, "wanted at least 0.5"),
        ({"code": "0.4"}, 1, "above 0"),
        ({"code": "0"}, 0, "above 0"),
        ({"code": "'true'"}, 1, ""),
        ({"code": "'{\"pass\": false, \"score\": 1}'"}, 0, "score 1"),
        ({"code": "{'pass': True, 'score': 0.2, 'reason': 'so'}", "at_least": 0.5}, 0, "so"),
        ({"code": "{'pass_': True, 'score': 1, 'reason': 'so'}"}, 1, "so"),
        ({"code": "x = json.loads('[1]')\nreturn x == [1]"}, 1, ""),
        ({"code": "assert output == 'ho'"}, 0, "AssertionError"),
        ({"code": "None"}, 0, "has to give a bool"),
        ({"code": "object()"}, 0, "no plain data"),
        ({"code": "while True: pass", "timeout": 1.0}, 0, "took over 1 s"),
        ({"code": "'x' * 20_000"}, 0, "over 10,000 bytes"),
        ({"code": "import os\nreturn os.listdir('/root')"}, 0, "FileNotFoundError"),
        ({"code": "import socket\nsocket.create_connection(('127.0.0.1', 9))"}, 0, "Error"),
        ({"code": "import ast\nast.parse(')')"}, 0, "SyntaxError"),
    ],
)  # fmt: skip
def test_a_script(settings: dict, value: float, reason: str) -> None:
    found = judged("script", Output("r", "hi"), {"n": 3}, **settings)
    assert (found.value, reason in found.reason) == (value, True), found.reason


@needs_sandbox
@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("context['prompt'] == 'x'", "context has no 'prompt', only config, vars"),
        ("import numpy\nreturn True", "ModuleNotFoundError"),
    ],
)
def test_a_script_that_lacks_something_judges_nothing(code: str, problem: str) -> None:
    with pytest.raises(ScorerError, match=problem):
        judged("script", Output("r", "hi"), code=code)


@needs_sandbox
@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "given by 'code', or by 'file"),
        ({"code": "x", "file": "a.py:b"}, "given by 'code', or by 'file"),
        ({"code": "x = "}, "no Python"),
        ({"file": "../a.py:b"}, "outside the project"),
        ({"file": "a.py"}, "must look like"),
        ({"file": "none.py:b"}, "can't be read"),
        ({"code": "x", "timeout": 0.0}, "timeout"),
    ],
)
def test_a_script_with_wrong_settings(tmp_path: Path, settings: dict, problem: str) -> None:
    with pytest.raises(SuiteError) as caught:
        judged("script", Output("r", "hi"), root=tmp_path, **settings)
    assert problem in str(caught.value)


@needs_sandbox
def test_the_score_of_a_script_rests_on_its_file(tmp_path: Path) -> None:
    keys = []
    for text in ("def f(output, context): return True\n", "def f(output, context): return False\n"):
        (tmp_path / "a.py").write_text(text)
        made = build_scorer(ScorerSpec("script", "script", {"file": "a.py:f"}), tmp_path, None)
        keys.append((made.content, made(Answered(Output("r", "x"), Case("c", {}), None)).value))
    assert [value for _, value in keys] == [1, 0]
    assert keys[0][0] != keys[1][0]


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ('{"pass": true, "score": 2, "reason": "so"}', (True, 2.0, "so")),
        ('Sure:\n```json\n{"pass": false, "reason": "no"}\n```', (False, 0.0, "no")),
        ('{"score": 0.5}', (True, 0.5, "")),
        ('{"pass": "yes"}', (True, 1.0, "")),
        ('{"pass": "no", "score": "0.25"}', (False, 0.25, "")),
        ('{a} {"x": 1} {"pass": true}', (True, 1.0, "")),
        ('{"inner": {"pass": true}}', None),
        ('{"pass": true, "score": "high"}', None),
        ('{"pass": true, "score": NaN}', None),
        ("pass", None),
        ("", None),
    ],
)
def test_a_grade(text: str, grade: tuple | None) -> None:
    assert read_grade(text) == grade


@pytest.mark.parametrize(
    ("own", "rivals", "at_least", "value"),
    [
        ("x y", ["x", "z"], None, 1),
        ("x", ["x y", "z"], None, 0),
        ("x", ["x", "z"], None, 1),
        ("z", ["z"], None, 1),
        ("z", ["z"], 0.5, 0),
    ],
)
def test_best(own: str, rivals: list[str], at_least: float | None, value: float) -> None:
    parts = [{"score": {"contains": "x"}}, {"score": {"contains": "y"}}]
    found = judged(
        "best", Output("r", own), rivals=[Output("q", text) for text in rivals], score={"weighted": parts}, at_least=at_least
    )  # fmt: skip
    assert found.value == value, found.reason


def test_best_of_one_is_no_comparison() -> None:
    with pytest.raises(ScorerError, match="no second answer"):
        judged("best", Output("r", "x"), rivals=[], score={"contains": "x"})
    assert Best.version == 1
