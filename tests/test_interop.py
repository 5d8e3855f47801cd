"""Configs of other tools: what is carried over runs on `echo`, all else is refused by name, nothing crashes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.cli import main
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.prompt import parse_prompt, render_prompt
from workbench.define.suite import load_suite, suite_names
from workbench.interop.github_models import import_github_models
from workbench.interop.langchain import import_langchain, to_langchain
from workbench.interop.nunjucks import text_prompt
from workbench.interop.promptfoo import find_configs, import_promptfoo
from workbench.interop.report import Report, write_files
from workbench.store import runs as stored
from workbench.store.database import Database

DOCS = Path(__file__).resolve().parents[1] / "docs/import.md"
IMPORTED = {
    "conversation-relevance", "csv-metadata", "custom-grading-prompt", "gpt-4o-temperature-comparison",
    "jsonl-test-cases", "max-score-selection", "multiple-turn-conversation", "multishot", "openai-chat-history",
    "openai-eval-factuality", "prompts-per-model", "python-assert/promptfooconfig-inline.yaml",
    "tool-use", "tool-use/promptfooconfig.bedrock.yaml",
}  # fmt: skip
"""Of the example configs: each is imported and run."""


JUDGED = {"Say pass or fail": "pass", "Say yes or no": "yes", "^Output:": '{"pass": true, "score": 2, "reason": "two"}'}


def on_echo(root: Path) -> None:
    """Gives every model of a project the engine `echo`; judges say pass, or yes, or give a grade."""
    place = root / "workbench.yaml"
    if place.exists():
        models = yaml.safe_load(place.read_text())["models"]
        judge = {"engine": "echo", "options": {"answers": JUDGED}}
        for alias, model in models.items():
            echo = judge if alias.startswith("judge") else {"engine": "echo", "options": {"rest": alias}}
            turns = model["engine"] == "turns"
            models[alias] = {"engine": "turns", "options": {"of": echo}} if turns else echo
        place.write_text(yaml.safe_dump({"models": models}))


def run_all(root: Path) -> list[stored.TrialRow]:
    """The trials of all suites of a project, each answered."""
    project = load_project(root)
    for name in suite_names(project):
        assert main(["--project", str(root), "run", name, "--quiet"]) == 0
    database = Database.open(project.store_url)
    with database.read() as connection:
        found = [row for run in stored.list_runs(connection) for row in stored.trial_rows(connection, run.id)]
    database.close()
    assert all(row.output and row.output.failure is None for row in found)
    return found


def config(folder: Path, text: str, **others: str) -> Report:
    for name, content in {"promptfooconfig.yaml": text, **others}.items():
        (folder / name).write_text(content)
    return import_promptfoo(folder / "promptfooconfig.yaml")


def project_of(report: Report, root: Path) -> Path:
    assert not report.refused
    (root / "evals").mkdir(parents=True)
    write_files(report.files, root)
    return root


def test_the_example_configs(shared: Path, tmp_path: Path) -> None:
    base = shared / "promptfoo-examples"
    table = ["| config | result | carried | approximated | why it is refused |", "|---|---|--:|--:|---|"]
    for path in find_configs(base):
        report = import_promptfoo(path)
        name = path.parent.name
        shown = name if path.name == "promptfooconfig.yaml" else f"{name}/{path.name}"
        result = "refused" if report.refused else "imported"
        reason = report.refused.replace("|", "\\|")[:160]
        table.append(f"| {shown} | {result} | {report.count('carried')} | {report.count('approximated')} | {reason} |")
        assert bool(report.refused) == (shown not in IMPORTED), report.refused
        if not report.refused:
            root = project_of(report, tmp_path / shown.replace("/", "-"))
            on_echo(root)
            rows = run_all(root)
            assert rows
            assert not [(shown, s.scorer, s.reason) for row in rows for s in row.scores if s.value is None]
    assert "\n".join(table) in DOCS.read_text(), "bring the table of docs/import.md up to date"


KEYS = [
    "prompts",
    "providers",
    "tests",
    "defaultTest",
    "scenarios",
    "evaluateOptions",
    "assertionTemplates",
    "description",
    "vars",
    "assert",
    "type",
    "value",
    "options",
    "provider",
    "config",
    "id",
    "label",
    "threshold",
    "weight",
    "repeat",
    "$ref",
]
BASE = "prompts: ['Say {{word}}']\nproviders: [echo]\n"


@pytest.mark.parametrize(
    ("assertion", "word", "passes"),
    [
        ("{type: equals, value: Say hi}", "hi", True),
        ("{type: equals, value: 'Say {{word}}'}", "hi", True),
        ("{type: equals, value: hi}", "hi", False),
        ("{type: not-equals, value: hi}", "hi", True),
        ("{type: contains, value: ay}", "hi", True),
        ("{type: contains, value: AY}", "hi", False),
        ("{type: icontains, value: AY}", "hi", True),
        ("{type: not-icontains, value: AY}", "hi", False),
        ("{type: contains-any, value: [x, hi]}", "hi", True),
        ("{type: contains-all, value: [x, hi]}", "hi", False),
        ("{type: icontains-all, value: [SAY, HI]}", "hi", True),
        ("{type: regex, value: '^S.y'}", "hi", True),
        ("{type: starts-with, value: 'Say h.'}", "hi", False),
        ("{type: starts-with, value: 'Say h'}", "hi", True),
        ("{type: is-json}", "hi", False),
        ("{type: not-is-json}", "hi", True),
        ("{type: latency, threshold: 5000}", "hi", True),
    ],
)
def test_an_assertion_judges_as_there(tmp_path: Path, assertion: str, word: str, passes: bool) -> None:
    report = config(tmp_path, f"{BASE}tests: [{{vars: {{word: {word}}}, assert: [{assertion}]}}]\n")
    (row,) = run_all(project_of(report, tmp_path / "out"))
    (score,) = row.scores
    assert score.value == float(passes), score.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BASE + "tests: [{vars: {word: a}, assert: [{type: javascript, value: x}]}]", "assertion javascript"),
        (BASE + "tests: [{vars: {word: a}, assert: [{type: python, value: 'x ='}]}]", "it is no Python"),
        (BASE + "tests: [{vars: {word: a}, assert: [{type: not-python, value: x}]}]", "assertion not-python"),
        (BASE + "tests: [{vars: {word: a}, assert: [{type: python, value: 'context[\"prompt\"]'}]}]", "context['prompt']"),
        (BASE + "tests: [{vars: {word: a}, assert: [{type: python, value: file://no.py}]}]", "no file 'no.py'"),
        (BASE + "tests: [{vars: {word: a}, assert: [{type: python, value: file://../t.py}]}]", "leaves the folder"),
        (BASE + "tests: [{vars: {word: a}, assert: [{type: max-score}]}]", "one output"),
        ("prompts: [a, b]\nproviders: [echo]\ntests: [{assert: [{type: conversation-relevance}]}]", "of several prompts"),
        (BASE + "tests: [{vars: {_conversation: [x]}, assert: [{type: conversation-relevance}]}]", "a turn that is not"),
        ("prompts: [a, b]\nproviders: [echo]\ntests: [{assert: [{type: max-score}]}]", "without another"),
        (BASE + "tests: [{vars: {word: a}, assert: [{type: select-best, value: x}]}]", "select-best"),
        (BASE + "tests: [{vars: {word: a}, assert: [{type: finish-reason, value: bored}]}]", "finish-reason with this"),
        (BASE + "tests: {path: 'file://t.py:make', config: {a: 1}}", "t.py:make is code; --run-python"),
        ("prompts: [a]\nproviders: [{id: 'openai:x', config: {tools: [{type: web_search}]}}]", "the tool web_search"),
        ("prompts: [a]\nproviders: [{id: 'openai:x', config: {functionToolCallbacks: {}}}]", "'functionToolCallbacks'"),
        ("prompts: [a]\nproviders: ['bedrock:agents:x']", "only chat models"),
        (BASE + "tests: [{vars: {word: a}, assert: [{type: cost, threshold: 1}]}]", "assertion cost"),
        (BASE + "tests: [{vars: {word: a}, assert: [{type: contains, value: a, transform: x}]}]", "'transform'"),
        (BASE + "defaultTest: {options: {transform: x}}", "'transform' of a test's options"),
        (BASE + "tests: file://t.py", "is code"),
        (BASE + "tests: file://../../etc/passwd", "leaves the folder"),
        (BASE + "tests: file://no.csv", "no file"),
        (BASE + "tests: [{vars: {word: true}}]", "yes or no"),
        (BASE + "nunjucksFilters: {x: y.js}", "nunjucksFilters"),
        ("prompts: ['{{word | allcaps}}']\nproviders: [echo]", "'allcaps'"),
        ("prompts: ['{{word.length}}']\nproviders: [echo]", "JavaScript"),
        ("prompts: ['{% raw %}x{% endraw %}']\nproviders: [echo]", "the tag 'raw'"),
        ("prompts: ['{{ env.HOME }}']\nproviders: [echo]", "'env'"),
        ("prompts: [file://p.js]\nproviders: [echo]", "is code"),
        ("prompts: [a]\nproviders: ['replicate:x']", "no engine for 'replicate'"),
        ("prompts: [a]\nproviders: [{id: 'openai:x', config: {apiKey: sk-1}}]", "'apiKey'"),
        ("prompts: [a]\nproviders: ['exec:rm -rf']", "no engine for 'exec'"),
        ("prompts: [a\n", "can't be read"),
        ("[]", "no mapping"),
    ],
)  # fmt: skip
def test_what_can_not_be_carried_over_is_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    report = config(tmp_path, text, **{"t.py": "raise SystemExit", "p.js": "boom"})
    assert reason in report.refused
    assert not report.files


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from(["", "a", "{{x}}", "{%", "echo", "file://x", "equals"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(KEYS[:8]), JSON, max_size=6))
def test_no_config_crashes_the_importer(tmp_path: Path, data: dict) -> None:
    report = config(tmp_path, yaml.safe_dump(data))
    assert bool(report.refused) != bool(report.files)


def test_variables_that_are_lists_are_axes(tmp_path: Path) -> None:
    text = "prompts: ['{{a}} {{b}}']\nproviders: [echo]\ntests: [{vars: {a: [x, y], b: [u, v, w]}}]"
    rows = run_all(project_of(config(tmp_path, text), tmp_path / "out"))
    assert {row.output.text for row in rows} == {f"{a} {b}" for a in "xy" for b in "uvw"}


def test_scenarios_defaults_and_weights(tmp_path: Path) -> None:
    text = """
prompts: [file://p.txt]
providers: [echo]
defaultTest: {vars: {tone: plain}, assert: [{type: contains, value: Say, weight: 3}]}
scenarios:
  - config: [{vars: {word: one}}, {vars: {word: two}}]
    tests: [{assert: [{type: contains, value: one}], threshold: 0.75}]
"""
    report = config(tmp_path, text, **{"p.txt": "Say {{word}}\n---\nSay {{word}}, {{tone}}\n"})
    rows = run_all(project_of(report, tmp_path / "out"))
    assert len(rows) == 4
    assert all({s.scorer: s.value for s in row.scores}["score"] == 1 for row in rows)


def test_names_that_cases_have_for_themselves_stay_variables(tmp_path: Path) -> None:
    text = (
        "prompts: ['{{id}} {{expected}} {{tags}}']\nproviders: [echo]\ntests: [{vars: {id: a, expected: b, tags: c}}]"
    )
    (row,) = run_all(project_of(config(tmp_path, text), tmp_path / "out"))
    assert row.output.text == "a b c"


@settings(max_examples=40)
@given(st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="{}﷐﷑"), min_size=1))
def test_text_without_templates_stays_as_it_is(text: str) -> None:
    for prompt in (text, f"{text}\nAssistant:\nx"):
        (message,) = render_prompt(parse_prompt(text_prompt(prompt.strip() or "x")), {})
        assert message.text == (prompt.strip() or "x")


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c").mkdir()
    config(tmp_path / "c", BASE)
    (tmp_path / "out/evals").mkdir(parents=True)
    arguments = ["--project", str(tmp_path / "out"), "import", "promptfoo", str(tmp_path / "c")]
    assert main([*arguments, "--dry-run"]) == 0
    assert not list((tmp_path / "out").rglob("*.yaml"))
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert "exists already; nothing was written" in capsys.readouterr().err


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    report = config(tmp_path / "c", BASE)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/prompts").symlink_to(tmp_path / "c")
    with pytest.raises(Exception, match="reached by a link"):
        write_files(report.files, tmp_path / "out")


def test_the_report_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config(tmp_path, BASE + "tests: [{vars: {word: a}, assert: [{type: javascript, value: x}]}]")
    assert main(["import", "promptfoo", str(tmp_path), "--dry-run", "--json"]) == 2
    row = json.loads(capsys.readouterr().out)
    assert row["refused"] == "test 1: assertion javascript"
    assert {"what", "fate", "note"} == set(row["lines"][0])


GITHUB = """
name: Sum up
model: openai/gpt-4o
modelParameters: {temperature: 0.5, maxTokens: 20}
messages:
  - {role: system, content: Be brief.}
  - {role: user, content: 'Sum up: {{input}}'}
testData: [{input: a long text, expected: text}, {input: a short one, expected: one}]
evaluators:
  - {name: has it, string: {contains: '{{expected}}'}}
  - {name: start, string: {startsWith: Sum}}
"""


def test_github_models(tmp_path: Path) -> None:
    (tmp_path / "sum.prompt.yml").write_text(GITHUB)
    root = project_of(import_github_models(tmp_path / "sum.prompt.yml"), tmp_path / "out")
    on_echo(root)
    rows = run_all(root)
    assert [m["role"] for m in rows[0].messages] == ["system", "user"]
    assert [[s.value for s in row.scores] for row in rows] == [[1, 1], [1, 1]]
    suite = load_suite("sum", load_project(root), Library(root / "prompts"))
    assert dict(suite.variants[0].params) == {"temperature": 0.5, "max_tokens": 20}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GITHUB + "  - {name: judged, llm: {prompt: x}}\n", "evaluator judged"),
        (GITHUB.replace("temperature", "topQ"), "'topQ'"),
        (GITHUB.replace("'{{expected}}'", "x").replace("contains", "like"), "'like'"),
        ("messages: no", "no list of messages"),
        ("- a", "no mapping"),
    ],
)
def test_github_models_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.prompt.yml").write_text(text)
    assert reason in import_github_models(tmp_path / "x.prompt.yml").refused


def test_langchain_reads_what_langchain_writes(tmp_path: Path) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.load import dumps, loads
    from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder

    theirs = ChatPromptTemplate([("system", "Be {tone} {{x}}"), MessagesPlaceholder("past"), ("user", "{question}?")])
    (tmp_path / "p.json").write_text(dumps(theirs))
    report = import_langchain(tmp_path / "p.json")
    assert not report.refused
    ours = parse_prompt(report.files["prompts/p.prompty"])
    past = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    messages = render_prompt(ours, {"tone": "plain", "question": "why", "past": past})
    assert [m.text for m in messages] == ["Be plain {x}", "hi", "ho", "why?"]

    text = to_langchain(parse_prompt("system:\nBe {{ tone }} {x}\n\nuser:\n{{ q }}?"))
    with warnings.catch_warnings(action="ignore"):  # LangChain calls its reader a beta
        back = loads(text, allowed_objects="all")
    assert [m.content for m in back.invoke({"tone": "warm", "q": "who"}).to_messages()] == ["Be warm {x}", "who?"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"_type": "few_shot", "template": "x"}, "class 'few_shot'"),
        ({"_type": "prompt", "template": "{a!r}"}, "the field"),
        ({"_type": "prompt", "template": "{{#a}}x{{/a}}", "template_format": "mustache"}, "mustache"),
        ({"_type": "prompt", "template": "a", "partial_variables": {"b": "c"}}, "filled already"),
        ({"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}, "no constructor"),
        ([1], "no prompt of LangChain"),
    ],
)
def test_langchain_refused(tmp_path: Path, data: object, reason: str) -> None:
    (tmp_path / "p.json").write_text(json.dumps(data))
    assert reason in import_langchain(tmp_path / "p.json").refused
