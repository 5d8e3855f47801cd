"""What git knows of a file: who changed it when and why, and how it read. Empty where there is no git."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

SECONDS = 20
"""A git that takes longer counts as absent."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit that changed a file."""

    id: str
    author: str
    time: str
    """ISO 8601 in UTC."""
    subject: str
    file: str
    """The file's path at that commit, from the top of the repository."""


def file_commits(folder: Path, file: str, at_most: int) -> list[Commit]:
    """The newest commits that changed a file of the folder, renames followed, newest first."""
    log = _git(
        folder, "log", "--follow", f"-{at_most}", "--format=%x1e%H%x1f%an%x1f%at%x1f%s", "--name-only", "-z", "--", file
    )
    commits = []
    for entry in log.split("\x1e")[1:]:
        header, _, names = entry.partition("\0")
        commit, author, seconds, subject = header.split("\x1f", 3)
        time = datetime.fromtimestamp(int(seconds), UTC).isoformat(timespec="seconds")
        commits.append(Commit(commit, author, time, subject, names.strip("\0\n")))
    return commits


def file_at(folder: Path, commit: str, file: str) -> str | None:
    """A file's text at a commit, its path from the top of the repository; None where it was not there."""
    return _git(folder, "show", f"{commit}:{file}") or None


def file_at_folder(folder: Path, commit: str, file: str) -> str | None:
    """The same for a path from the folder."""
    return file_at(folder, commit, "./" + file)


def resolve_ref(folder: Path, ref: str) -> str | None:
    """The commit that a branch, tag or revision names; None where git does not know it."""
    return _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", ref + "^{commit}").strip() or None


def folder_at(folder: Path, commit: str) -> bytes:
    """The folder as it was at a commit, as a tar archive whose paths start at the folder; empty where it was not."""
    return _git_bytes(folder, "archive", "--format=tar", commit, "--", ".")


def is_ignored(folder: Path, file: str) -> bool:
    """Whether git ignores a file of the folder."""
    return bool(_git(folder, "check-ignore", "--", file))


def _git(folder: Path, *arguments: str) -> str:
    return _git_bytes(folder, *arguments).decode("utf-8", "replace")


def _git_bytes(folder: Path, *arguments: str) -> bytes:
    program = shutil.which("git")
    if program is None or not folder.is_dir():
        return b""
    try:
        done = subprocess.run(  # noqa: S603 - fixed program, no shell
            [program, "-C", str(folder), *arguments], capture_output=True, timeout=SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return b""
    return done.stdout
