"""What CI reads: JUnit XML, annotations, the pull request's comment, the JSON report; the action's steps run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml
from doubles.repository import BETTER, SUITE, WORSE, call, make_repository, write
from hypothesis import given
from hypothesis import strategies as st

from workbench.define.suite_file import SuiteFile
from workbench.stats.gates import Decision, GateReport, GateResult
from workbench.views.comment import MOST_CHARS, CommentData, NewFailure, PromptChange, code, code_block, comment
from workbench.views.github import annotation_lines, command
from workbench.views.gitlab import code_quality_report
from workbench.views.schema import report_schema

ROOT = Path(__file__).resolve().parents[1]

NASTY = "x</testcase>]]>&<script>@team #1 ![i](http://e) `code` ```\n| a | \x1b[31m\ufffe\ud800 ::error::no %0A"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo")


@pytest.fixture
def failing(project: Path, capsys) -> Path:
    """A blessed project whose prompt was then edited for the worse."""
    assert call(project, "run", "mood", "--quiet") == 0
    assert call(project, "baseline", "bless", "latest") == 0
    write(project, "prompts/mood.prompty", WORSE)
    assert call(project, "run", "mood", "--gate", "--quiet") == 1
    capsys.readouterr()
    return project


def report(root: Path, capsys, form: str) -> str:
    assert call(root, "report", "latest", "--to", form, "--out", "-") == 0
    return str(capsys.readouterr().out)


def test_junit(failing: Path, capsys) -> None:
    """Attributes and elements are those of Jenkins' xunit plug-in, junit-10.xsd, which requires these and no more."""
    tree = ElementTree.fromstring(report(failing, capsys, "junit"))
    assert (tree.tag, set(tree.attrib)) == ("testsuites", {"name"})
    gates, cases = tree
    for suite, counts in ((gates, ("2", "2", "0", "0")), (cases, ("200", "100", "0", "0"))):
        assert suite.tag == "testsuite"
        assert (
            {"name", "tests", "failures", "errors"}
            <= set(suite.attrib)
            <= {"name", "tests", "failures", "errors", "skipped", "timestamp"}
        )
        assert tuple(suite.attrib[n] for n in ("tests", "failures", "errors", "skipped")) == counts
        for test in suite:
            assert (test.tag, set(test.attrib)) == ("testcase", {"classname", "name"})
            assert all((c.tag, set(c.attrib)) == ("failure", {"message"}) for c in test)
    assert gates[0].attrib["name"] == "exact at least 0.6 [mood]"
    assert "fail: 50.0 % on 200 cases" in gates[0][0].attrib["message"]
    assert (cases[150].attrib["classname"], cases[150].attrib["name"]) == ("mood.exact", "c150")
    assert "answer: no" in (cases[150][0].text or "")


def test_annotations_stand_at_the_gates_lines(failing: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(failing.parent))
    lines = report(failing, capsys, "annotations").splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        "::error file=repo/evals/mood.yaml,line=7,title=Gate failed::exact at least 0.6 · mood: 50.0 %25 on"
    )
    assert lines[1].startswith("::error file=repo/evals/mood.yaml,line=8,")


CODE_QUALITY = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "additionalProperties": False,
        "properties": {
            "description": {"type": "string", "minLength": 1, "pattern": "^[^\\x00-\\x1f]*$"},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": "^[^/.]"},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        },
    },
}
"""GitLab's documented form: docs.gitlab.com/ci/testing/code_quality, "Code quality report format"."""


def test_gitlab_shows_failed_gates_at_their_lines(failing: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("CI_PROJECT_DIR", str(failing.parent))
    found = json.loads(report(failing, capsys, "gitlab"))
    jsonschema.validate(found, CODE_QUALITY)
    assert [(x["severity"], x["location"]) for x in found] == [
        ("major", {"path": "repo/evals/mood.yaml", "lines": {"begin": 7}}),
        ("major", {"path": "repo/evals/mood.yaml", "lines": {"begin": 8}}),
    ]
    assert found[0]["check_name"] == "exact at least 0.6"
    assert "50.0 % on 200 cases" in found[0]["description"]
    assert len({x["fingerprint"] for x in found}) == 2
    assert call(failing, "run", "mood", "--quiet", "--fresh") == 0
    capsys.readouterr()
    assert [x["fingerprint"] for x in json.loads(report(failing, capsys, "gitlab"))] == [
        x["fingerprint"] for x in found
    ]


def test_gitlab_has_nothing_to_show_of_gates_that_passed(project: Path, capsys) -> None:
    assert call(project, "run", "mood", "--quiet") == 0
    assert call(project, "baseline", "bless", "latest") == 0
    capsys.readouterr()
    assert not [x for x in json.loads(report(project, capsys, "gitlab")) if x["severity"] != "info"]


def test_gitlab_is_told_why_gates_could_not_be_judged() -> None:
    (finding,) = json.loads(code_quality_report(None, "evals/s.yaml", NASTY))
    jsonschema.validate([finding], CODE_QUALITY)
    assert finding["severity"] == "critical"


def test_the_comment_tells_what_changed_and_what_came_of_it(failing: Path, capsys) -> None:
    told = report(failing, capsys, "comment")
    assert told.startswith("<!-- workbench mood -->\n### `mood`: a gate failed\n")
    for part in (
        "| **FAIL** | `exact no worse than baseline by 0.05` | `mood` | `−30.0 points (50.0 % after 80.0 %) on 200 cases; upper 97.5 % bound",
        "-Say positive or negative.\n+Say something.",
        "| `mood` | `50 % [",
        "| `c100` | `mood` | `exact` | `1 → 0` | `yes` | `no` |",
        "… and 50 more.",
        "200 trials, 0 failed",
    ):
        assert part in told
    assert report(failing, capsys, "github") == told


def test_gates_that_can_not_be_judged_are_told_in_every_report(failing: Path, capsys) -> None:
    (failing / "evals/baselines/mood.json").unlink()
    assert "gates could not be judged" in report(failing, capsys, "comment")
    assert report(failing, capsys, "annotations").startswith(
        "::error file=evals/mood.yaml,title=Gates could not be judged::"
    )
    gates = ElementTree.fromstring(report(failing, capsys, "junit"))[0]
    assert gates.attrib["errors"] == "1"


def test_the_json_report_keeps_its_schema(failing: Path, capsys) -> None:
    assert call(failing, "schema", "report") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == json.loads(json.dumps(report_schema()))
    data = json.loads(report(failing, capsys, "json"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(data, schema)
    assert data["gates"]["answer"] == "fail" and len(data["gates"]["results"]) == 2
    data["gates"]["results"][0]["answer"] = "perhaps"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema)


@given(st.text())
def test_foreign_text_stays_in_its_code_span(text: str) -> None:
    """CommonMark 6.1: a span ends at the first run of backticks as long as the one that opened it."""
    span = code(text, cell=True)
    fence = re.match("`+", span).group()
    inner = span[len(fence) : -len(fence)]
    assert span.endswith(fence) and "\n" not in span
    assert fence not in re.findall("`+", inner)
    assert not re.search(r"(?<!\\)\|", inner)


@given(st.text())
def test_foreign_text_stays_in_its_code_block(text: str) -> None:
    lines = code_block(text, "diff").splitlines()
    fence = lines[0].removesuffix("diff")
    assert set(fence) == {"`"} and lines[-1] == fence
    assert not any(line.lstrip().startswith(fence) for line in lines[1:-1])


@given(st.text())
def test_an_annotation_is_one_command(text: str) -> None:
    line = command("error", text, text, text or "f", 1)
    assert line.count("\n") == 1 and "\r" not in line
    head, _, _ = line.removeprefix("::error ").partition("::")
    assert len(head.split(",")) == 3


def result(text: str) -> GateResult:
    return GateResult(text, 3, text, "pass", "at_least", 0.5, 0.95, text, text, "fail", Decision("fail"), why=text)


def test_what_models_say_becomes_no_markup(failing: Path, capsys) -> None:
    """Outputs, cases and labels with everything that a forge or a parser would take for its own."""
    text = (failing / "house.py").read_text()
    write(failing, "house.py", text.replace('else "no"', f"else {NASTY.replace(chr(0xD800), '')!r}"))
    assert call(failing, "run", "mood", "--gate", "--quiet") == 1
    capsys.readouterr()
    ElementTree.fromstring(report(failing, capsys, "junit"))
    told = report(failing, capsys, "comment")
    outside = re.sub(r"(?s)(`{3,})\w*\n.*?\n\1\n|(`+)(?!`).*?(?<!`)\2(?!`)", "", told)
    assert not re.search(r"[@\[\]]|<(?!!--)|http|\x1b", outside)
    gates = GateReport((result(NASTY),), (NASTY,))
    assert all(
        line.startswith(("::error", "::notice")) and line.count("\n") == 1 for line in annotation_lines(gates, "f")
    )


def test_a_comment_is_never_too_long(failing: Path, capsys) -> None:
    from workbench.store.database import Database
    from workbench.views.model import load_view

    with Database.open(f"sqlite:///{failing}/.workbench/runs.db").read() as connection:
        view = load_view(connection, "latest")
    huge = "`@x " * 50_000
    data = CommentData(
        view,
        GateReport((result(huge),) * 200, (huge,) * 3),
        changes=[PromptChange(huge, "pr1-a", "pr1-b", huge)] * 30,
        failures=[NewFailure(huge, huge, huge, 1, 0, huge, huge, huge)] * 5_000,
    )
    told = comment(data)
    assert len(told) <= MOST_CHARS + 200 < 65_536
    assert "left out: the comment would be too long" in told
    assert "200 trials" in told
    assert len(comment(replace(data, changes=(), failures=()))) < len(told)


def steps() -> list[dict[str, str]]:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    return action["inputs"], action["runs"]["steps"]


def run_action(root: Path, inputs: dict[str, str]) -> tuple[int, str, dict[str, str], str]:
    """The action's steps, as the runner does them: its exit code, what it printed, its outputs, its summary."""
    declared, todo = steps()
    values = {f"inputs.{name}": str(d.get("default", "")) for name, d in declared.items()}
    values |= {f"inputs.{name}": value for name, value in inputs.items()}
    output, summary = root.parent / "output", root.parent / "summary"
    output.write_text("")
    summary.write_text("")
    printed = ""
    for step in todo:
        if "if" in step:
            name, different, wanted = step["if"].split()
            assert (different, wanted) == ("!=", "''")
            if not values.get(name):
                continue
        assert "${{" not in step["run"], "inputs reach the shell by the environment alone"
        fill = {k: values.get(v.removeprefix("${{ ").removesuffix(" }}"), "") for k, v in step["env"].items()}
        runner = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_WORKSPACE": str(root)}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=root, env={**os.environ, **runner, **fill, "PATH": path}, capture_output=True, text=True,
        )  # fmt: skip
        printed += done.stdout + done.stderr
        values |= {
            f"steps.run.outputs.{k}": v for k, _, v in (line.partition("=") for line in output.read_text().splitlines())
        }
        if done.returncode:
            break
    found = {k.rpartition(".")[2]: v for k, v in values.items() if k.startswith("steps.run.")}
    return done.returncode, printed, found, summary.read_text()


@pytest.mark.slow
def test_the_action_fails_with_the_gate_and_reports(failing: Path) -> None:
    returned, printed, outputs, summary = run_action(failing, {"suite": "mood"})
    assert (returned, outputs["code"]) == (1, "1")
    assert "::error file=evals/mood.yaml,line=7,title=Gate failed::" in printed
    assert "a gate failed" in summary
    ElementTree.parse(failing / "workbench-reports/junit.xml")
    assert (failing / "workbench-reports/comment.md").read_text() == summary


@pytest.mark.slow
def test_the_action_passes_and_tells_of_a_broken_file(failing: Path) -> None:
    write(failing, "prompts/mood.prompty", BETTER)
    assert run_action(failing, {"suite": "mood"})[0] == 0
    write(failing, "evals/mood.yaml", SUITE.replace("at_least: 0.6", "at_least 0.6"))
    returned, printed, outputs, _ = run_action(failing, {"suite": "mood; touch pwned"})
    assert (returned, outputs["run"]) == (2, "") and not (failing / "pwned").exists()
    returned, printed, outputs, _ = run_action(failing, {"suite": "mood"})
    assert (returned, outputs["run"]) == (2, "")
    assert "::error title=Workbench::workbench: evals/mood.yaml:7: " in printed


@pytest.mark.slow
def test_the_action_passes_nothing_that_was_not_run(failing: Path) -> None:
    """Code of a pull request may end the program with 0, and print what the runner would take for a command."""
    write(failing, "house.py", "import os\nos.write(2, b'::error::from the code\\n')\nos._exit(0)\n")
    returned, printed, outputs, _ = run_action(failing, {"suite": "mood", "reports": "-p"})
    assert (returned, outputs["code"], outputs["run"]) == (3, "3", "")
    begin, command, end, *_ = printed.splitlines()
    assert command == "::error::from the code"
    assert begin == f"::stop-commands::{end.strip(':')}"


def test_the_hook_lints(project: Path, capsys) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert re.search(hook["files"], "prompts/mood.prompty") and not hook["pass_filenames"]
    program, *arguments = shlex.split(hook["entry"])
    assert program == "workbench"
    assert call(project, *arguments) == 0
    write(project, "prompts/mood.prompty", "user:\n{{ text")
    assert call(project, *arguments) == 2
    assert "prompts/mood.prompty:2: error:" in capsys.readouterr().out


DOCS = (ROOT / "docs/ci.md").read_text()


def test_the_documented_workflow_uses_what_the_action_has() -> None:
    gates, workflow, _, hooks = (yaml.safe_load(b) for b in re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL))
    SuiteFile.model_validate({"prompts": ["mood"], "cases": [{}], "scorers": ["exact"], **gates})
    inputs, _ = steps()
    (own,) = [s for s in workflow["jobs"]["gate"]["steps"] if "workbench@" in s.get("uses", "")]
    assert set(own["with"]) <= set(inputs)
    (comment_step,) = [s for s in workflow["jobs"]["gate"]["steps"] if "gh pr comment" in s.get("run", "")]
    assert f"{inputs['reports']['default']}/comment.md" in comment_step["run"]
    assert hooks["repos"][0]["hooks"][0]["id"] == "workbench-lint"


def test_the_documented_gitlab_job_runs(failing: Path) -> None:
    job = next(
        d["gate"] for b in re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL) if "gate" in (d := yaml.safe_load(b))
    )
    script = [line for line in job["script"] if not line.startswith("pip ")]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-ec", "\n".join(script)], cwd=failing, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    reports = job["artifacts"]["reports"]
    jsonschema.validate(json.loads((failing / reports["codequality"]).read_text()), CODE_QUALITY)
    ElementTree.parse(failing / reports["junit"])


def test_the_documented_commands_run(project: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(project)
    before, *after = (b.splitlines() for b in re.findall(r"```console\n(.*?)```", DOCS, re.DOTALL))
    for line in [*before, "edit", *(line for block in after for line in block)]:
        if line == "edit":
            write(project, "prompts/mood.prompty", BETTER)
            continue
        program, *arguments = shlex.split(line)
        assert program == "workbench"
        assert call(project, *arguments) == 0, line
    assert "gates passed" in capsys.readouterr().out
