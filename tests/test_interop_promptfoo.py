"""What of promptfoo needs more than a scorer of texts: Python, tools, grading prompts, conversations, comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from test_interop import BASE, config, on_echo, project_of, run_all
from test_scorers_code import needs_sandbox

from workbench.cli import main
from workbench.define.library import Library
from workbench.interop.promptfoo import import_promptfoo
from workbench.store.runs import TrialRow


def models_of(root: Path) -> dict:
    return yaml.safe_load((root / "workbench.yaml").read_text())["models"]


def scores(row: TrialRow) -> dict[str, float | str | None]:
    return {score.scorer: score.value for score in row.scores}


LINES = """
          if context['vars']['word'] in output:
              return {'pass': True, 'score': 0.5, 'reason': 'has it'}
          return {'pass': False, 'score': 0, 'reason': 'lacks it'}
"""


@needs_sandbox
@pytest.mark.parametrize(
    ("assertion", "passes", "reason"),
    [
        ("{value: \"'hi' in output\"}", True, "says True"),
        ("{value: \"'ho' in output\"}", False, "says False"),
        ("{value: len(output) / 12, threshold: 0.5}", True, "says 0.5"),
        ("{value: len(output) / 12, threshold: 0.6}", False, "wanted at least 0.6"),
        ("{value: |" + LINES + "        }", None, ""),
        ("{value: undefined(output)}", False, "NameError"),
        ("{value: '\"nothing\"'}", False, "has to give a bool"),
    ],
)  # fmt: skip
def test_python_judges_in_the_sandbox(tmp_path: Path, assertion: str, passes: bool | None, reason: str) -> None:
    if passes is None:
        assertion, passes, reason = "{value: " + json.dumps(LINES) + "}", True, "score 0.5: has it"
    given = yaml.safe_dump([{"type": "python", **yaml.safe_load(assertion)}], default_flow_style=True, width=9999)
    report = config(tmp_path, BASE + f"tests: [{{vars: {{word: hi}}, assert: {given.strip()}}}]\n")
    (row,) = run_all(project_of(report, tmp_path / "out"))
    (score,) = row.scores
    assert score.value == float(passes), score.reason
    assert reason in score.reason


CHECK = """
import json
def get_assert(output, context):
    return context["config"]["wanted"] in output
def other(output, context):
    return False
"""


@needs_sandbox
def test_a_python_file_comes_along(tmp_path: Path) -> None:
    text = BASE + (
        "tests: [{vars: {word: hi}, assert: [{type: python, value: file://check.py, config: {wanted: hi}}, "
        "{type: python, value: 'file://check.py:other', metric: second}]}]"
    )
    report = config(tmp_path, text, **{"check.py": CHECK})
    (row,) = run_all(project_of(report, tmp_path / "out"))
    assert scores(row) == {"python": 1, "second": 0}
    assert [name for name in report.files if name.endswith(".py")] == [f"evals/scripts/{tmp_path.name}/check.py"]


MAKER = """
def make(config=None):
    return [{"vars": {"word": word}, "assert": [{"type": "contains", "value": word}]} for word in config["words"]]
def reads(config=None):
    return open("/etc/passwd").read().splitlines()
def writes(config=None):
    open(%r, "w").write("x")
"""


@needs_sandbox
def test_python_makes_tests_only_where_asked_and_in_the_sandbox(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    text = BASE + "tests: [{path: 'file://t.py:make', config: {words: [one, two]}}]"
    refused = config(tmp_path, text, **{"t.py": MAKER % str(outside)})
    assert "t.py:make is code; --run-python" in refused.refused
    report = import_promptfoo(tmp_path / "promptfooconfig.yaml", run_python=True)
    rows = run_all(project_of(report, tmp_path / "out"))
    assert [(row.output.text, scores(row)) for row in rows] == [
        ("Say one", {"contains": 1}),
        ("Say two", {"contains": 1}),
    ]
    for name in ("reads", "writes"):
        config(tmp_path, BASE + f"tests: 'file://t.py:{name}'")
        assert "Error" in import_promptfoo(tmp_path / "promptfooconfig.yaml", run_python=True).refused
    assert not outside.exists()


@needs_sandbox
def test_the_flag_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config(tmp_path, BASE + "tests: [{path: 'file://t.py:make', config: {words: [one]}}]", **{"t.py": MAKER % "x"})
    assert main(["import", "promptfoo", str(tmp_path), "--dry-run"]) == 2
    assert main(["import", "promptfoo", str(tmp_path), "--dry-run", "--run-python"]) == 0


TOOL = "{type: function, function: {name: look, parameters: {type: object, properties: {at: {type: string}}}}}"
TOOLS = f"""
prompts: ['Look at {{{{word}}}}']
providers:
  - {{id: 'openai:gpt-5-mini', label: with, config: {{tools: [{TOOL}], tool_choice: {{type: tool, name: look}}}}}}
  - {{id: 'anthropic:claude', config: {{tools: file://tools.yaml}}}}
  - {{id: 'openai:gpt-5-mini', label: without}}
tests: [{{vars: {{word: a}}, assert: [{{type: finish-reason, value: stop}}]}}]
"""


def test_tools_of_a_provider_stand_with_its_prompt(tmp_path: Path) -> None:
    other = "- {name: add, description: adds, input_schema: {type: object}}\n"
    root = project_of(config(tmp_path, TOOLS, **{"tools.yaml": other}), tmp_path / "out")
    on_echo(root)
    rows = run_all(root)
    assert [scores(row) for row in rows] == [{"finish-reason": 1}] * 3
    library = Library(root / "prompts")
    (path,) = (root / "evals").glob("*.yaml")
    variants = yaml.safe_load(path.read_text())["variants"]
    tools = [[tool["function"]["name"] for tool in library.find(v["prompt"]).tools] for v in variants]
    assert tools == [["look"], ["add"], []]
    assert variants[0]["model"]["params"]["tool_choice"] == {"type": "function", "function": {"name": "look"}}


def test_text_assertions_on_tool_calls_are_refused(tmp_path: Path) -> None:
    text = TOOLS.replace("type: finish-reason, value: stop", "type: contains, value: look")
    report = config(tmp_path, text, **{"tools.yaml": "- {name: add}\n"})
    assert "assertion contains on an answer that may be tool calls" in report.refused


def test_calls_are_checked_by_the_providers_tools(tmp_path: Path) -> None:
    text = TOOLS.replace("type: finish-reason, value: stop", "type: is-valid-openai-tools-call")
    root = project_of(config(tmp_path, text, **{"tools.yaml": "- {name: add}\n"}), tmp_path / "out")
    on_echo(root)
    assert {score.reason for row in run_all(root) for score in row.scores} == {"calls no tool"}
    clash = config(tmp_path, text, **{"tools.yaml": "- {name: look}\n"})
    assert "two tools 'look' that differ" in clash.refused


def test_bedrock_is_asked_by_its_own_api(tmp_path: Path) -> None:
    text = (
        "prompts: [a]\nproviders: [{id: 'bedrock:us.anthropic.claude-x-v1:0', label: c, config: {region: us-east-2}}]"
    )
    root = project_of(config(tmp_path, text), tmp_path / "out")
    assert models_of(root) == {
        "c": {"engine": "bedrock", "model": "us.anthropic.claude-x-v1:0", "options": {"region": "us-east-2"}}
    }


GRADED = (
    BASE
    + """
defaultTest:
  options:
    rubricPrompt: [{role: system, content: 'Grade by {{rubric}} for {{ word }}.'}, {role: user, content: 'Output: {{ output }}'}]
tests: [{vars: {word: hi}, assert: [{type: llm-rubric, value: manners, threshold: 3}]}, {vars: {word: ho}, assert: [{type: llm-rubric, value: manners, threshold: 2}]}]
"""
)


def test_a_grading_prompt_is_asked_as_it_is(tmp_path: Path) -> None:
    root = project_of(config(tmp_path, GRADED), tmp_path / "out")
    (rubric,) = (root / "prompts/judges").glob("rubric-*.prompty")
    assert "Grade by {{assert_1}} for {{ word }}." in rubric.read_text()
    on_echo(root)
    found = {row.output.text: scores(row) for row in run_all(root)}
    assert found == {
        "Say hi": {"llm-rubric": 0, "llm-rubric-score": 2},
        "Say ho": {"llm-rubric": 1, "llm-rubric-score": 2},
    }


TALK = """
prompts: ['Answer: {{message}}']
providers: [echo]
tests:
  - vars: {message: Where}
    assert: [{type: conversation-relevance, threshold: 1}]
  - vars: {_conversation: [{input: one, output: 1}, {input: two, output: zwei}, {input: three, output: stocks}]}
    assert: [{type: conversation-relevance, threshold: 0.6, config: {windowSize: 2}}]
  - vars: {_conversation: [{input: one, output: eins}, {input: three, output: stocks}]}
    assert: [{type: conversation-relevance, threshold: 0.6}]
"""


def test_each_answer_of_a_conversation_is_judged_in_its_window(tmp_path: Path) -> None:
    root = project_of(config(tmp_path, TALK.replace("output: 1}", "output: eins}")), tmp_path / "out")
    on_echo(root)
    models = models_of(root)
    models["judge"]["options"]["answers"] = {"(?s)answered:\\nstocks\\n\\nIs the": "no", "Say yes or no": "yes"}
    (root / "workbench.yaml").write_text(yaml.safe_dump({"models": models}))
    found = {row.case_id: row.scores[0] for row in run_all(root)}
    assert [(found[i].value, found[i].reason.partition(",")[0]) for i in ("t1", "t2", "t3")] == [
        (1, "1 of 1 answers fit"), (1, "2 of 3 answers fit"), (0, "1 of 2 answers fit")
    ]  # fmt: skip
    assert "a turn has to be" not in str(found)


def test_max_score_passes_the_best_only(tmp_path: Path) -> None:
    text = """
prompts: ['{{word}}', '{{word}} x', '{{word}} x y']
providers: [echo]
tests:
  - vars: {word: hi}
    assert:
      - {type: contains, value: x}
      - {type: icontains, value: Y}
      - {type: max-score, value: {weights: {icontains: 2}}}
"""
    rows = run_all(project_of(config(tmp_path, text), tmp_path / "out"))
    assert {row.output.text: scores(row)["max-score"] for row in rows} == {"hi": 0, "hi x": 0, "hi x y": 1}


CHAT = """[
  {"role": "system", "content": "Be brief."},
  {% for completion in _conversation %}
    {"role": "user", "content": "{{ completion.prompt[completion.prompt.length - 1].content }}"},
    {"role": "assistant", "content": "{{ completion.output }}"},
  {% endfor %}
  {"role": "user", "content": "{{ question }}?"}
]"""
TURNS = """
prompts: [file://prompt.json]
providers: [echo]
tests:
  - {vars: {question: one}, metadata: {conversationId: a}}
  - {vars: {question: apart}, metadata: {conversationId: b}}
  - {vars: {question: two}, metadata: {conversationId: a}}
"""


def test_tests_of_a_conversation_go_on_with_it(tmp_path: Path) -> None:
    root = project_of(config(tmp_path, TURNS, **{"prompt.json": CHAT}), tmp_path / "out")
    assert models_of(root) == {"echo": {"engine": "turns", "options": {"of": {"engine": "echo"}}}}
    asked = {row.case_id: [m["content"] for m in row.messages] for row in run_all(root)}
    assert asked == {
        "t1": ["Be brief.", "one?"], "t2": ["Be brief.", "apart?"], "t3": ["Be brief.", "one?", "two?"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("[file://prompt.json]", "[file://prompt.json, other]", "one of several prompts"),
        ("providers: [echo]", "providers: [echo]\nevaluateOptions: {repeat: 2}", "with repeats"),
        ("length - 1", "length - 2", "filled by promptfoo"),
    ],
)
def test_other_uses_of_the_conversation_are_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    report = config(tmp_path, TURNS.replace(old, new), **{"prompt.json": CHAT.replace(old, new)})
    assert reason in report.refused
