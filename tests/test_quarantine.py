"""Cases in quarantine: asked and shown, counted in no number; how many they are is said wherever a number stands."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from doubles.pages import opened
from rich.console import Console
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from workbench.cli import main
from workbench.define.changed import changed_suites
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.errors import WorkbenchError
from workbench.evaluate import Progress
from workbench.interop.frames import load_runs
from workbench.records import Case
from workbench.registry import SCORERS
from workbench.stats.tally import Tally
from workbench.store.database import Database
from workbench.store.runs import quarantined_cases, trial_rows
from workbench.views.live import LiveView

ANSWERS = "{'^A .*flaky': [yes, no], '^A .*wrong': no, '^A ': yes, '^B .*[08]$': [yes, no], '^B ': yes}"
SUITE = """
name: s
prompts: [a, b]
models: [house]
params: {temperature: [0.5, 1]}
repeats: 4
cases: {file: data.jsonl%s}
scorers: [exact, word_f1]
gates:
  - {scorer: exact, at_least: 0.5}
  - {scorer: exact, no_worse_than: reference, margin: 0.3}
  - {errors: {at_most: 0.3}}
"""
APP = Path(__file__).resolve().parents[1] / "streamlit_app.py"
ASIDE = ("c03", "c07")
LIST = ", quarantine: [c03, c07]"
TOLD = "2 quarantined cases left out"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def rows(without: tuple[str, ...] = ()) -> str:
    kinds = {3: "flaky", 7: "wrong", 11: "flaky"}
    found = [{"id": f"c{i:02}", "what": f"{kinds.get(i, 'plain')} {i}", "expected": "yes"} for i in range(24)]
    return "\n".join(json.dumps(row) for row in found if row["id"] not in without)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in "ab":
        write(tmp_path / f"prompts/{name}.prompty", f"user:\n{name.upper()} {{{{ what }}}}")
    write(tmp_path / "workbench.yaml", f"models: {{house: {{engine: echo, options: {{answers: {ANSWERS}}}}}}}")
    write(tmp_path / "data.jsonl", rows())
    write(tmp_path / "evals/s.yaml", SUITE % LIST)
    return tmp_path


def call(root: Path, *arguments: str) -> int:
    return main(["--project", str(root), *arguments])


def suite(root: Path):
    found = load_project(root)
    return load_suite("s", found, Library(found.library_root), SCORERS.names())


# The list


@pytest.mark.parametrize(
    ("listed", "problem"),
    [
        (LIST, ""),
        (", quarantine: []", ""),
        (", quarantine: [c03, c07], limit: 3", ""),
        (", quarantine: [c3]", "evals/s.yaml:7: 'quarantine' names 'c3', which is no case's id; did you mean 'c23'?"),
        (", quarantine: [c03, c03]", "evals/s.yaml:7: 'quarantine' names 'c03' twice; take one out"),
        (", quarantine: c03", "evals/s.yaml:7: cases.quarantine"),
        (", quarantine: [[c03]]", "evals/s.yaml:7: cases.quarantine"),
        (
            f", quarantine: [{', '.join(f'c{i:02}' for i in range(24))}]",
            "evals/s.yaml: 'quarantine' names every case, so none would count; take some out",
        ),
    ],
)
def test_the_list(project: Path, listed: str, problem: str) -> None:
    write(project / "evals/s.yaml", SUITE % listed)
    if not problem:
        asked = {case.id for case in suite(project).cases}
        named = set(ASIDE) if "c03" in listed else set()
        assert {case.id for case in suite(project).cases if case.quarantined} == named & asked
        return
    with pytest.raises(WorkbenchError) as error:
        suite(project)
    assert str(error.value).startswith(problem)


@pytest.mark.parametrize("ids", [[7, 8], ["7", "8"]])
def test_ids_that_are_numbers(project: Path, ids: list[int | str]) -> None:
    write(
        project / "data.jsonl", '{"id": 7, "what": "x", "expected": "yes"}\n{"id": 8, "what": "y", "expected": "yes"}'
    )
    write(project / "evals/s.yaml", SUITE % f", quarantine: {json.dumps(ids[:1])}")
    assert [case.quarantined for case in suite(project).cases] == [True, False]


def test_it_changes_no_case_that_a_sample_draws_and_no_request(project: Path, capsys) -> None:
    drawn = []
    for listed in (", limit: 9", f"{LIST}, limit: 9"):
        write(project / "evals/s.yaml", SUITE % listed)
        drawn.append([case.id for case in suite(project).cases])
        assert call(project, "run", "s", "--quiet") == 0
    assert drawn[0] == drawn[1]
    runs = capsys.readouterr().out.split()
    with Database.open(load_project(project).store_url).read() as connection:
        asked = [{row.trial_id: row.request_id for row in trial_rows(connection, run)} for run in runs]
        numbers = [{row.output.text for row in trial_rows(connection, run)} for run in runs]
    assert asked[0] == asked[1] and numbers[0] == numbers[1]
    assert call(project, "run", "s", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["requests"] == plan["answered"]


# No number


def lines(capsys) -> list:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def bare(value):
    """Without what names the run or says how many cases are left out."""
    if isinstance(value, dict):
        other = ("quarantined", "left_out", "run", "notes", "key")
        return {name: bare(item) for name, item in value.items() if name not in other}
    return [bare(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "command",
    [
        ("show", "latest"),
        ("compare", "latest"),
        ("compare", "latest", "--reference", "b · temperature=1"),
        ("show", "latest", "--axes"),
        ("show", "latest", "--repeats"),
        ("gate", "latest"),
        ("cases", "latest", "--hardest"),
        ("cases", "latest", "--flaky"),
        ("cases", "latest", "--suspicious"),
        ("cases", "latest", "--disagree", "a · temperature=0.5", "b · temperature=1"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "added up"])
def test_numbers_are_those_without_the_cases(project: Path, capsys, command: tuple[str, ...], kept: bool) -> None:
    """A run with cases in quarantine says what one says whose file never had them."""
    codes, said = [], []
    for data, listed in ((rows(), LIST), (rows(ASIDE), "")):
        write(project / "data.jsonl", data)
        write(project / "evals/s.yaml", SUITE % listed)
        assert call(project, "run", "s", "--quiet") == 0
        if not kept:
            with Database.open(load_project(project).store_url).write() as connection:
                connection.exec_driver_sql("DELETE FROM summaries")
        capsys.readouterr()
        codes.append(call(project, *command, "--json"))
        said.append(lines(capsys))
    assert codes[0] == codes[1]
    assert bare(said[0]) == bare(said[1])


def test_without_the_list_the_numbers_are_others(project: Path, capsys) -> None:
    said = []
    for listed in (LIST, ""):
        write(project / "evals/s.yaml", SUITE % listed)
        assert call(project, "run", "s", "--quiet") == 0
        capsys.readouterr()
        assert call(project, "show", "latest", "--json") == 0
        said.append(lines(capsys)[0]["summaries"][0])
    assert [one["cases"] for one in said] == [22, 24]
    assert said[0]["mean"] > said[1]["mean"]
    assert said[0]["missing"] == 0


def test_a_baseline_does_not_hold_them_and_a_case_that_is_back_is_new(project: Path, capsys) -> None:
    gated = "\n  - {scorer: exact, no_worse_than: baseline, margin: 0.3}\n"
    write(project / "evals/s.yaml", SUITE.rstrip() % LIST + gated)
    assert call(project, "run", "s", "--quiet") == 0
    assert call(project, "baseline", "bless", "latest", "-m", "first") == 0
    held = json.loads((project / "evals/baselines/s.json").read_text())["cases"]
    assert len(held) == 22 and not set(ASIDE) & set(held)
    for listed, told in ((LIST, "quarantined"), ("", "cases differ from the baseline's (2 new)")):
        write(project / "evals/s.yaml", SUITE.rstrip() % listed + gated)
        call(project, "run", "s", "--quiet")
        capsys.readouterr()
        call(project, "gate", "latest")
        said = capsys.readouterr().out
        assert told in said
        assert ("differ" in said) == (not listed)


def test_until_looks_at_what_counts(project: Path, capsys) -> None:
    text = SUITE % LIST + "until: {smaller_than: 0.3, scorer: exact}\n"
    write(project / "evals/s.yaml", text.replace("[0.5, 1]", "1"))
    assert call(project, "run", "s", "--quiet") == 0
    capsys.readouterr()
    assert call(project, "report", "latest", "--to", "json", "--out", "-") == 0
    report = json.loads(capsys.readouterr().out)
    facts = report["run"]["header"]["stopping"]
    asked = {row["case_id"] for row in report["trials"] if row["output"]}
    assert len(asked - set(ASIDE)) == facts["cases_asked"]
    assert (facts["cases"], facts["looks"]) == (22, [22])
    assert [row["pairs"] for row in facts["standings"]] == [len(asked - set(ASIDE))]


# Said


def report(root: Path, capsys, form: str) -> str:
    capsys.readouterr()
    assert call(root, "report", "latest", "--to", form, "--out", "-") == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "times"),
    [
        (("show", "latest"), 3),  # a title a table, and the run's line
        (("compare", "latest"), 2),
        (("show", "latest", "--axes"), 1),
        (("show", "latest", "--repeats"), 1),
        (("cases", "latest", "--hardest"), 1),
        (("gate", "latest"), 11),  # 4 variants and 2 bounds, 3 others against the reference, and the verdict
        (("report", "latest", "--to", "md", "--out", "-"), 15),
        (("report", "latest", "--to", "html", "--out", "-"), 15),
        (("report", "latest", "--to", "junit", "--out", "-"), 2),  # tests that pass have no message
        (("report", "latest", "--to", "comment", "--out", "-"), 14),  # the headline, each gate, a table a scorer
        (("report", "latest", "--to", "github", "--out", "-"), 14),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_table_and_gate_says_how_many(project: Path, capsys, monkeypatch, command, times: int) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert call(project, "run", "s", "--quiet") == 0
    capsys.readouterr()
    call(project, *command)
    said = capsys.readouterr().out
    assert said.count(TOLD) >= times
    write(project / "evals/s.yaml", SUITE % "")
    assert call(project, "run", "s", "--quiet") == 0
    capsys.readouterr()
    call(project, *command)
    assert "quarantine" not in capsys.readouterr().out.replace("&quot;quarantine", "")


@pytest.mark.parametrize(
    ("command", "name", "about"),
    [
        ("show latest", "quarantined", list(ASIDE)),
        ("compare latest", "quarantined", list(ASIDE)),
        ("show latest --axes", "quarantined", list(ASIDE)),
        ("show latest --repeats", "quarantined", list(ASIDE)),
        ("gate latest", "quarantined", 2),
        ("cases latest --hardest", "left_out", list(ASIDE)),
        ("cases latest --flaky", "left_out", list(ASIDE)),
    ],
)
def test_every_line_of_json_tells_them(project: Path, capsys, command: str, name: str, about: object) -> None:
    for listed, told in ((LIST, about), ("", 0 if about == 2 else [])):
        write(project / "evals/s.yaml", SUITE % listed)
        assert call(project, "run", "s", "--quiet") == 0
        capsys.readouterr()
        assert call(project, *command.split(), "--json") == 0
        said = lines(capsys)
        assert said and [line[name] for line in said] == [told] * len(said)


@pytest.mark.parametrize(
    ("screen", "address", "times"),
    [
        ("journey", {}, 2),  # below the chart, and with what is undecided
        ("models", {}, 1),
        ("compare", {}, 1),
    ],
)
def test_every_screen_with_a_mean_says_how_many(project: Path, monkeypatch, screen, address, times: int) -> None:
    monkeypatch.setenv("WORKBENCH_PROJECT", str(project))
    monkeypatch.setattr("workbench.views.screens.may_show", lambda: True)
    for listed, told in ((LIST, times), ("", 0)):
        write(project / "evals/s.yaml", SUITE % listed)
        shutil.rmtree(project / ".workbench", ignore_errors=True)
        assert call(project, "run", "s", "--quiet") == 0
        app = AppTest.from_file(str(APP), default_timeout=20)
        app._page_hash = calc_hash("" if screen == "journey" else screen)
        app = opened(app, **address)
        said = [element.value for element in [*app.main.text, *app.main.caption]]
        assert sum(TOLD in line for line in said) >= told
        assert told or not [line for line in said if "quarantined" in line]


@pytest.mark.parametrize(("screen", "address"), [("journey", {"table": "1"}), ("prompts", {"view": "history"})])
def test_tables_of_several_runs_have_a_column_for_them(project: Path, monkeypatch, screen, address) -> None:
    monkeypatch.setenv("WORKBENCH_PROJECT", str(project))
    monkeypatch.setattr("workbench.views.screens.may_show", lambda: True)
    assert call(project, "run", "s", "--quiet") == 0
    app = AppTest.from_file(str(APP), default_timeout=20)
    app._page_hash = calc_hash("" if screen == "journey" else screen)
    assert opened(app, **address).main.dataframe[0].value["quarantined cases left out"][0] == 2


def test_the_live_table_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.views.live.MEANS_EVERY_SECONDS", 0.0)
    tally = Tally("exact", "pass", ["v"], [Case("a", {})])
    tally.add("v", "a", 1.0)
    told = Progress("r", 4, done=1, tally={"exact": tally})
    for aside, says in ((2, f"so far, incomplete; {TOLD}"), (0, "so far, incomplete")):
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(LiveView({"v": "v"}, ["exact"], console, aside)._drawn(told))
        assert " ".join(console.export_text().split()).endswith(says)


def test_the_verdict_names_them(project: Path, capsys) -> None:
    code = call(project, "run", "s", "--gate")
    said = capsys.readouterr().err.splitlines()
    assert (code, said[-1]) == (0, "gates: pass (11 pass); 2 quarantined cases left out")
    assert "note: in quarantine, so counted in no gate, though asked and shown: 2 (c03, c07)" in said
    assert call(project, "gate", "s", "--json") == 0
    *results, whole = lines(capsys)
    assert {row["quarantined"] for row in results} == {2} == {whole["quarantined"]}


def test_forge_reports_have_a_finding_of_their_own(project: Path, capsys) -> None:
    assert call(project, "run", "s", "--quiet") == 0
    findings = json.loads(report(project, capsys, "gitlab"))
    assert [(row["severity"], "2 (c03, c07)" in row["description"]) for row in findings] == [("info", True)]
    assert re.search(r"^::notice .*in quarantine.*2 \(c03, c07\)", report(project, capsys, "annotations"), re.MULTILINE)


def test_they_are_shown_and_marked(project: Path, capsys) -> None:
    assert call(project, "run", "s", "--quiet") == 0
    capsys.readouterr()
    assert call(project, "show", "latest", "--case", "c03") == 0
    assert capsys.readouterr().out.count("quarantined") == 16
    assert call(project, "show", "latest", "--grid") == 0
    assert capsys.readouterr().out.count("quarantined") == 2
    whole = json.loads(report(project, capsys, "json"))
    assert whole["quarantined"] == list(ASIDE) and whole["gates"]["quarantined"] == 2
    assert {row["case_id"] for row in whole["trials"] if row["quarantined"]} == set(ASIDE)
    table = list(csv.DictReader(io.StringIO(report(project, capsys, "csv"))))
    assert {row["case"] for row in table if row["quarantined"] == "yes"} == set(ASIDE)
    tests = Xml.fromstring(report(project, capsys, "junit")).iter("testcase")
    aside = [test for test in tests if test.get("name") in ASIDE]
    assert aside and all([part.tag for part in test] == ["skipped"] for test in aside)
    assert any("quarantined: 4 of 4 repeats" in (test[0].text or "") for test in aside), "a failure is still told"
    frame = load_runs(load_project(project), "latest")
    assert set(frame.loc[frame["quarantined"], "case"]) == set(ASIDE)


# Changed


def test_a_changed_list_is_a_changed_suite(project: Path, capsys) -> None:
    """A stored run keeps its own list: one that is judged by another is a new run, whose answers are all there."""
    assert call(project, "run", "s", "--quiet") == 0
    run = capsys.readouterr().out.strip()
    write(project / "evals/s.yaml", SUITE % ", quarantine: [c03]")
    assert call(project, "gate", "s") == 2
    assert "as its prompts, models, cases and scorers stand now" in capsys.readouterr().err
    assert call(project, "run", "s", "--resume", run) == 2
    assert "can't be resumed" in capsys.readouterr().err
    assert call(project, "gate", run) == 0, "its own gates, by its own list"
    assert TOLD in capsys.readouterr().out


def test_changed_since_sees_it(project: Path) -> None:
    import subprocess

    for command in (("init", "-q"), ("add", "."), ("-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x")):
        subprocess.run(["git", *command], cwd=project, check=True)
    assert changed_suites(load_project(project), ["s"], "HEAD", SCORERS.names()) == []
    write(project / "evals/s.yaml", SUITE % "")
    assert changed_suites(load_project(project), ["s"], "HEAD", SCORERS.names()) == ["s"]


def test_shards_keep_it(project: Path, capsys) -> None:
    for number in (1, 2):
        assert call(project, "run", "s", "--quiet", "--shard", f"{number}/2") == 0
    runs = capsys.readouterr().out.split()
    assert call(project, "runs", "join", *runs) == 0
    joined = capsys.readouterr().out.split()[-1]
    with Database.open(load_project(project).store_url).read() as connection:
        assert set(quarantined_cases(connection, [joined])[joined]) == set(ASIDE)


def test_an_export_of_before_has_none(project: Path, tmp_path: Path, capsys) -> None:
    assert call(project, "run", "s", "--quiet") == 0
    assert call(project, "store", "export", str(tmp_path / "runs.gz")) == 0
    old = []
    for line in gzip.decompress((tmp_path / "runs.gz").read_bytes()).splitlines():
        value = json.loads(line)
        if isinstance(value, dict) and "schema" in value:
            value["schema"] = "0009"
        elif isinstance(value, list) and value[0] == "cases":
            del value[1]["quarantined"]
        old.append(json.dumps(value))
    (tmp_path / "old.gz").write_bytes(gzip.compress(("\n".join(old) + "\n").encode()))
    other = f"sqlite:///{tmp_path / 'other.db'}"
    assert call(project, "--store", other, "store", "import", str(tmp_path / "old.gz")) == 0
    capsys.readouterr()
    assert call(project, "--store", other, "show", "latest", "--json") == 0
    assert lines(capsys)[0]["summaries"][0]["cases"] == 24
