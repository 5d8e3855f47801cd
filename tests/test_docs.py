"""The documents hold: each command of the README's tour runs as printed, each example is read."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

from workbench.cli import COMMANDS, main, workbench
from workbench.cli.examples import EXAMPLES
from workbench.define.project import create_project
from workbench.define.suite_file import SuiteFile
from workbench.registry import ENGINES, SCORERS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.model
@pytest.mark.slow
def test_the_tour_runs_as_printed(tmp_path: Path) -> None:
    tour = next(b for b in blocks("console") if "workbench init" in b).replace("/tmp/try", str(tmp_path / "try"))
    lines = [line for line in tour.splitlines() if not line.startswith("source ")]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = "set -e\n" + "\n".join(lines)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "few-shot" in done.stdout
    assert list((tmp_path / "try/reports").glob("*.html"))


def test_the_suite_shown_is_a_suite() -> None:
    (shown,) = blocks("yaml")
    SuiteFile.model_validate(yaml.safe_load(shown))


def test_the_demo_shown_is_the_demo() -> None:
    (shown,) = blocks("yaml")
    real = yaml.safe_load((ROOT / "evals/demo.yaml").read_text())
    for key, value in yaml.safe_load(shown).items():
        if key != "cases":
            assert real[key] == value


def test_every_command_has_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert f"workbench {name}" in text
        assert len(text.splitlines()) > 3


def commands(command: click.Command = workbench, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with its name, groups too."""
    yield name, command
    if isinstance(command, click.Group):
        for part in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), part)
            assert below is not None
            yield from commands(below, f"{name} {part}".strip())


def test_help_is_whole_and_in_one_voice(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in commands():
        assert main([*name.split(), "--help"]) == 0
        text = capsys.readouterr().out
        assert "..." not in text.split("Commands:")[-1] or "Commands:" not in text, f"{name}: a line is cut"
        for parameter in command.params:
            told = isinstance(parameter.type, click.Choice)  # its choices say it
            shown = told or not isinstance(parameter, click.Option) or parameter.help or parameter.show_default
            assert shown, f"{name}: {parameter.name} says nothing"
        assert not re.match(r"(The|A|An|All|\w+s) ", (command.help or "").strip()) or isinstance(
            command, click.Group
        ), name


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_right_use(name: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "promptfooconfig.yaml").touch()  # its example names a file that has to be there
    command = dict(commands())[name]
    assert main([*name.split(), "--help"]) == 0
    printed = capsys.readouterr().out
    for example in EXAMPLES[name]:
        assert f"workbench {example}" in printed
        words = shlex.split(example)[len(name.split()) :]
        if not (isinstance(command, click.Group) and words[0] in command.commands):
            command.make_context(name, words).close()


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


PAGES = [
    "ci",
    "finetune",
    "hosted",
    "import",
    "iterate",
    "judges",
    "local",
    "models",
    "pytest",
    "python",
    "retrieval",
    "ship",
    "store",
]
"""Pages whose blocks run one after the other, in a project that `workbench init` made."""
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<language>\w+)(?: title=\"(?P<file>[^\"]+)\")?\n(?P<text>.*?)^```",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    mark: str
    """What the remark before it says: `model`, `not run: REASON`, or nothing."""
    language: str
    file: str
    """Its title: the file that it is."""
    text: str


def page_blocks(page: str) -> list[Block]:
    text = (ROOT / f"docs/{page}.md").read_text()
    return [
        Block(*(found[name] or "" for name in ("mark", "language", "file", "text"))) for found in FENCE.finditer(text)
    ]


def run_block(block: Block, names: dict[str, object], model: str) -> None:
    """Writes a titled block as its file, runs the lines of a console, executes Python."""
    if block.file:
        path = Path(block.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text if model == "smollm2" else block.text.replace("smollm2", "echo"))
    elif block.language == "console":
        for line in block.text.splitlines():
            command, _, remark = line.partition("  #")
            wanted = re.search(r"exit code (\d+)", remark)
            assert run_line(command) == (int(wanted[1]) if wanted else 0), line
    elif block.language == "python":
        exec(compile(block.text, "example", "exec"), names)


def run_line(line: str) -> int:
    if line.startswith("workbench "):
        return main(shlex.split(line)[1:])
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(["bash", "-c", line], env=environment, stdout=subprocess.DEVNULL).returncode


@pytest.fixture
def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that `workbench init` made, in git, on `echo`."""
    create_project(tmp_path)
    suite = tmp_path / "evals/sentiment.yaml"
    suite.write_text(suite.read_text().replace("[smollm2]", "[echo]"))
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@example.org")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for registry in (ENGINES, SCORERS):
        monkeypatch.setattr(registry, "_own", dict(registry._own))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_as_printed(page: str, starter: Path) -> None:
    names: dict[str, object] = {}
    for block in page_blocks(page):
        if block.mark != "model" and not block.mark.startswith("not run: "):
            run_block(block, names, "echo")


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(b.mark == "model" for b in page_blocks(page))])
def test_a_page_runs_on_a_model(page: str, starter: Path) -> None:
    suite = starter / "evals/sentiment.yaml"
    suite.write_text(suite.read_text().replace("[echo]", "[smollm2]"))
    for block in page_blocks(page):
        if not block.mark.startswith("not run: "):
            run_block(block, {}, "smollm2")


def test_a_block_that_is_wrong_is_seen(starter: Path) -> None:
    with pytest.raises(AssertionError, match="run nothing"):
        run_block(Block("", "console", "", "workbench run nothing\n"), {}, "echo")
    with pytest.raises(NameError):
        run_block(Block("", "python", "", "nothing\n"), {}, "echo")


def test_every_page_is_listed() -> None:
    nav = [next(iter(entry.values())) for entry in yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]]
    assert sorted(nav) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    index = (ROOT / "docs/index.md").read_text()
    assert all(f"]({name})" in index for name in nav if name != "index.md")
    assert all(page_blocks(page) for page in PAGES)


@pytest.mark.slow
def test_the_pages_build_and_fetch_nothing(tmp_path: Path) -> None:
    """Strict: a broken link or an unknown name of the reference ends the build."""
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = "".join(path.read_text() for path in (tmp_path / "site").glob("*.html"))
    assert "workbench.api.run_suite" in pages
    assert not re.findall(
        r"<(?:script|img|iframe)[^>]* src=\"https?://|<link[^>]*rel=\"stylesheet\"[^>]*href=\"https?://", pages
    )
