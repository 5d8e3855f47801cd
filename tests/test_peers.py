"""What users of other tools complain of, tried here; each test names the complaint.

Tests of the same kind that stand beside what they test are not repeated here.
"""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from workbench.cli import main
from workbench.loopback import Script, serve

SUITE = """
name: s
prompts: [say]
models: [%s]
params: {temperature: 1, max_tokens: 9}
cases: data.csv
scorers: [contains]
"""
HOUSE = "models: {house: {engine: openai, model: m, base_url: %s}}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "evals").mkdir()
    (tmp_path / "prompts/say.prompty").write_text("user:\nsay {{ word }}")
    (tmp_path / "evals/s.yaml").write_text(SUITE % "echo")
    write_words(tmp_path, "one", "two", "three", "four")
    return tmp_path


def write_words(root: Path, *words: str) -> None:
    rows = "".join(f"{word},say {word}\n" for word in words)
    (root / "data.csv").write_text(f"word,expected\n{rows}")


def call(root: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints; it has to end with 0."""
    capsys.readouterr()
    code = main(["--project", str(root), *arguments])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out


def trials(root: Path, capsys: pytest.CaptureFixture[str]) -> list[dict]:
    """The trials of the newest run."""
    call(root, capsys, "export", "run", "latest", "--to", "jsonl", "--out", str(root / "trials.jsonl"))
    return [json.loads(line) for line in (root / "trials.jsonl").read_text().splitlines()]


def test_a_repeat_is_asked_for_itself_and_reused_for_itself(root: Path, capsys) -> None:
    """promptfoo #360 (repeats got the same cached answer), #1431 (no cache with repeats)."""
    with serve(Script()) as server:
        (root / "workbench.yaml").write_text(HOUSE % server.url)
        (root / "evals/s.yaml").write_text(SUITE % "house")
        asked = []
        for repeats in ("3", "3", "5"):
            call(root, capsys, "run", "s", "--quiet", "--repeats", repeats)
            asked.append(server.books.answered)
    assert asked == [4 * 3, 4 * 3, 4 * 5]
    rows = trials(root, capsys)
    assert len({row["trial"] for row in rows}) == len(rows) == 4 * 5
    assert all(row["score.contains"] == 1 for row in rows)


def test_the_place_of_a_case_changes_nothing(root: Path, capsys) -> None:
    """DeepEval #1265 (scores by place in the suite), promptfoo PR #7606 and Inspect 0.3.258 (ids by position)."""
    call(root, capsys, "run", "s", "--quiet")
    first = {row["input.word"]: row["trial"] for row in trials(root, capsys)}
    write_words(root, "zero", "four", "three", "two", "one")
    plan = json.loads(call(root, capsys, "run", "s", "--dry-run", "--json"))
    assert (plan["requests"], plan["answered"]) == (5, 4)
    call(root, capsys, "run", "s", "--quiet")
    again = {row["input.word"]: row["trial"] for row in trials(root, capsys)}
    assert first.items() < again.items()


def test_other_cases_never_get_kept_answers_of_these(root: Path, capsys) -> None:
    """lm-evaluation-harness PR #4105 (another choice of samples took the cached answers of the first)."""
    write_words(root, *(f"w{i}" for i in range(30)))
    seen: set[str] = set()
    for seed in (1, 2, 3):
        text = (SUITE % "echo").replace("data.csv", f"{{file: data.csv, limit: 10, sample_seed: {seed}}}")
        (root / "evals/s.yaml").write_text(text)
        call(root, capsys, "run", "s", "--quiet")
        rows = trials(root, capsys)
        assert len(rows) == 10
        assert all(row["output"] == row["expected"] and row["score.contains"] == 1 for row in rows)
        seen |= {row["input.word"] for row in rows}
    assert len(seen) > 10


def test_without_a_hosted_model_no_socket_is_connected(root: Path, capsys, monkeypatch) -> None:
    """promptfoo #5808, #9968, #4618 ("100 % local" that was not); the report fetches nothing either."""

    def refuse(self: socket.socket, address: object) -> None:
        raise AssertionError(f"{address} was to be reached")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for line in (
        "run s --quiet",
        "show latest",
        "models list",
        "models check echo",
        "scorers",
        "prompts lint",
        "cases latest",
    ):
        call(root, capsys, *line.split())
    call(root, capsys, "report", "latest", "--to", "html", "--out", str(root / "r.html"))
    assert not re.search(r"""(?:src|href|action)=["']?(?:https?:)?//|@import|url\(""", (root / "r.html").read_text())


def test_prompts_of_different_variables_stand_side_by_side(root: Path, capsys) -> None:
    """ChainForge #69 (plots break when evaluations have different prompt variables)."""
    (root / "prompts/how.prompty").write_text("user:\nsay {{ word }} {{ tone }}")
    (root / "data.csv").write_text("word,tone,expected\none,softly,say one\ntwo,aloud,say two\n")
    (root / "evals/s.yaml").write_text((SUITE % "echo").replace("[say]", "[say, how]"))
    call(root, capsys, "run", "s", "--quiet")
    for line in ("show latest", "show latest --axes", "compare latest", "report latest --to html", "cases latest"):
        call(root, capsys, *line.split())
    rows = trials(root, capsys)
    assert {(row["prompt"], row["output"]) for row in rows} >= {("say", "say one"), ("how", "say one softly")}


def test_a_trial_without_an_answer_is_no_success(root: Path, capsys) -> None:
    """Inspect (`eval` ends with 0 when a task errors), #913 (killed runs left as "started")."""
    (root / "workbench.yaml").write_text(
        "models: {broken: {engine: echo, options: {fail: {two: {kind: refused, message: out of order, retry: false}}}}}"
    )
    (root / "evals/s.yaml").write_text(SUITE % "broken")
    assert main(["--project", str(root), "run", "s", "--quiet"]) == 3
    (row,) = [json.loads(line) for line in call(root, capsys, "show", "latest", "--failures", "--json").splitlines()]
    assert row["inputs"]["word"] == "two"
    assert "out of order" in row["output"]["failure"]["message"]


def test_scores_of_single_cases_can_be_read_from_a_file_of_a_second_run(root: Path, capsys) -> None:
    """DeepEval #734 (a cached second run has no scores), #3126 (no stable file of scores by case)."""
    files = []
    for name in ("a.json", "b.json"):
        call(root, capsys, "run", "s", "--quiet")
        call(root, capsys, "report", "latest", "--to", "json", "--out", str(root / name))
        files.append(json.loads((root / name).read_text()))
    first, second = ([[t["case_id"], t["scores"]] for t in file["trials"]] for file in files)
    assert first == second
    assert all(scores for _, scores in first)
