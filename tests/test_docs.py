"""The documents hold: each command of the README's tour runs as printed, each example is read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from workbench.cli import COMMANDS
from workbench.define.suite_file import SuiteFile

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
    from workbench.cli import main

    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert f"workbench {name}" in text
        assert len(text.splitlines()) > 3


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
