"""`workbench prompts`, run as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.cli import main

FEW = """---
description: Sentiment
inputs:
  - {name: text, kind: string}
  - {name: n, kind: integer, default: 1}
---
system:
{% include 'tone.jinja' %}

user:
{{ text }} ({{ n }})
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "prompts" / "s").mkdir(parents=True)
    (tmp_path / "evals").mkdir()
    (tmp_path / "prompts" / "s" / "few.prompty").write_text(FEW)
    (tmp_path / "prompts" / "tone.jinja").write_text("Be brief.")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]):
    def call(*arguments: str, code: int = 0) -> str:
        assert main(["--project", str(project), "prompts", *arguments]) == code
        captured = capsys.readouterr()
        return captured.err if code == 2 and not captured.out else captured.out

    return call


def test_a_working_day(run, project: Path) -> None:
    row = json.loads(run("list", "--json"))
    assert (row["name"], row["inputs"], row["labels"], row["description"]) == ("s/few", ["text", "n"], {}, "Sentiment")
    first = row["revision"]
    assert first[4:12] in run("list")

    assert run("label", "s/few", "production") == f"s/few@production → {first[4:12]}\n"
    assert run("save", "s/few", "-m", "first try") == f"s/few: new revision {first[4:12]}\n"
    (project / "prompts" / "tone.jinja").write_text("Be very brief.")
    assert "production (older)" in run("list")

    assert "-Be brief.\n+Be very brief." in run("diff", "s/few")
    assert run("diff", "s/few") == run("diff", "s/few@production") == run("diff", f"s/few@{first}", "s/few")
    changes = [json.loads(line) for line in run("log", "s/few", "--json").splitlines()]
    assert [(c["message"], c["labels"], c["parent"]) for c in changes] == [
        ("on disk, not recorded yet", [], first),
        ("first try", ["production"], None),
    ]
    second = changes[0]["revision"]
    assert f"new revision {second[4:12]}, was {first[4:12]}" in run("save", "s/few", "-m", "shorter")
    assert "shorter" in run("log", "s/few") and "not recorded" not in run("log", "s/few")

    moved = json.loads(run("label", "s/few", "production", "--to", second[4:10], "--json"))
    assert (moved["revision"], moved["was"]) == (second, first)
    assert [json.loads(line) for line in run("label", "s/few", "--json").splitlines()] == [
        {"label": "production", "revision": second}
    ]
    assert "Be brief." in run("render", f"s/few@{first[4:10]}", "--set", "text=hi")  # only the store has it by now
    assert run("diff", "s/few@production") == f"s/few: no difference ({second[4:12]})\n"


def test_render(run, project: Path) -> None:
    out = run("render", "s/few", "--set", "text=system:\nx", "--set", "n=3")
    assert out == "── system ──\nBe brief.\n\n── user ──\nsystem:\nx (3)\n"
    (project / "in.json").write_text('{"text": "hi", "more": 1}')
    assert json.loads(run("render", "s/few", "--inputs", str(project / "in.json"), "--json")) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi (1)"},
    ]


def test_show(run) -> None:
    out = run("show", "s/few")
    assert "inputs: text: string, n: integer = 1" in out and "── tone.jinja ──\nBe brief." in out
    shown = json.loads(run("show", "s/few", "--json"))
    assert shown["partials"] == {"tone.jinja": "Be brief."} and shown["template"] in FEW


def test_nothing_steers_the_terminal(run, project: Path) -> None:
    (project / "prompts" / "esc.prompty").write_text('---\ndescription: "\\e]0;x\\a"\n---\nuser:\n\x1b[31mred\x9b1m\n')
    for arguments in (("list",), ("show", "esc"), ("render", "esc")):
        out = run(*arguments)
        assert not {"\x1b", "\x9b", "\x07"} & set(out)
    assert "red" in out


def test_lint(run, project: Path) -> None:
    assert run("lint") == ""
    (project / "prompts" / "idle.prompty").write_text("---\ninputs: [{name: a}]\n---\nuser:\nhi")
    expected = "prompts/idle.prompty:2: warning: input 'a' is declared but not used\n"
    assert run("lint") == run("lint", "idle") == expected
    assert run("lint", "idle", "--strict", code=2) == expected
    (project / "prompts" / "bad.prompty").write_text("user:\n{{ a")
    assert run("lint", code=2).startswith("prompts/bad.prompty:2: error: unexpected end of template")
    assert json.loads(run("lint", "bad", "--json", code=2))["level"] == "error"
    (project / "prompts" / "out.prompty").symlink_to("/etc/hostname")
    assert "out: error: 'out.prompty' leads out of the library\n" in run("lint", code=2)
    listed = run("list", code=2)
    assert "error: prompts/bad.prompty:2: unexpected end" in listed and "leads out of the library" in listed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "s/fwe"), "unknown prompt 's/fwe'; did you mean 's/few'?"),
        (("show", "../x"), "'../x.prompty' must be a path inside the library"),
        (("show", "s/few@prod"), "unknown label or revision of prompt 's/few' 'prod'; there is none"),
        (("show", "s/few@abcd1234"), "unknown label or revision of prompt 's/few' 'abcd1234'"),
        (("render", "s/few"), "prompts/s/few.prompty: input 'text' has no value"),
        (("render", "s/few", "--set", "txt=x"), "unknown input of 's/few' 'txt'; did you mean 'text'?"),
        (("render", "s/few", "--set", "text"), "--set takes NAME=VALUE, not 'text'"),
        (("render", "s/few", "--set", "text=x", "--set", "n=x"), "input 'n' is 'x', which is not of type integer"),
        (("render", "s/few", "--inputs", "no.json"), "no.json: can't be read: No such file"),
        (("diff", "s/few"), "no other revision of 's/few' is recorded or labelled"),
        (("label", "s/few", "a b"), "'a b' is no label"),
        (("label", "s/few", "--to", "x"), "--to needs a LABEL"),
        (("label", "nope"), "unknown prompt 'nope'"),
        (("save", "nope", "-m", "x"), "unknown prompt 'nope'"),
        (("log", "nope"), "unknown prompt 'nope'"),
        (("save", "s/few"), "Missing option '-m'"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(run, arguments: tuple[str, ...], message: str) -> None:
    error = run(*arguments, code=2)
    assert message in error and error.count("\n") == 1
