"""What is built and installed: all that the package needs, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import setuptools.build_meta as b; b.build_wheel('dist'); b.build_sdist('dist')"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    source = tmp_path_factory.mktemp("source")
    for name in ("workbench", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, source)
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return source / "dist"


def package_files() -> set[str]:
    files = (path for path in (ROOT / "workbench").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in files}


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == package_files()
    assert any(name.endswith("licenses/LICENSE") for name in about)


def test_the_source_distribution_holds_no_tests_that_can_not_run(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as held:
        names = {name.partition("/")[2] for name in held.getnames()}
    assert package_files() | {"LICENSE", "CHANGELOG.md", "README.md", "pyproject.toml"} <= names
    assert not any(name.startswith("tests") for name in names)


def test_an_installed_package_works_in_an_empty_folder(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(installed)
    empty.mkdir()
    start = f"import sys; sys.path.insert(0, {str(installed)!r}); from workbench.cli import main; "

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = f"{start}import workbench; assert workbench.__file__.startswith({str(installed)!r}); sys.exit(main())"
        return subprocess.run([sys.executable, "-c", code, *arguments], cwd=empty, capture_output=True, text=True)

    assert command("runs").returncode == 2
    assert command("init", "p").returncode == 0
    suite = empty / "p/evals/sentiment.yaml"
    suite.write_text(suite.read_text().replace("smollm2", "echo", 1))
    for arguments in (("run", "sentiment", "--quiet"), ("report", "latest", "--to", "html", "--out", "r.html")):
        done = command("--project", "p", *arguments)
        assert done.returncode == 0, done.stderr
    assert "<html" in (empty / "r.html").read_text()
