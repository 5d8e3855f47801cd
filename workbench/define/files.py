"""Files of the project that are written for people: never through a link, never outside, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from workbench.define.project import Project
from workbench.errors import UseError


def own_file(project: Project, relative: str | Path) -> Path:
    """A file's path inside the project, there or not; raises UseError where it leaves it, or is reached by a link."""
    root = project.root.resolve()
    path = root / relative
    if ".." in path.parts or "\0" in str(path) or not path.is_relative_to(root):
        raise UseError(f"'{relative}' leaves the project folder; choose a file inside it")
    if path.resolve() != path:
        raise UseError(f"'{relative}' is reached by a link; name the file that it leads to")
    return path


def state_folder(root: Path, name: str, make: bool = True) -> Path:
    """The folder `.workbench/NAME` of a project, made where it is not there, unless `make` is False. Raises UseError
    where it is reached by a link or can't be made."""
    folder = root.resolve() / ".workbench" / name
    if folder.resolve() != folder:
        raise UseError(f"{folder} is reached by a link; put a folder there")
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UseError(f"{folder} can't be made: {error.strerror}") from error
    return folder


def replace_text(path: Path, text: str) -> None:
    """Gives a file its new text in one step; raises UseError where it can't be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    except (OSError, UnicodeEncodeError) as error:
        raise UseError(f"{path} can't be written: {getattr(error, 'strerror', None) or error}") from error
