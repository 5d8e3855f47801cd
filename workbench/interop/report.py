"""What an import did: what is carried over, what is only approximated, what is left, and the files it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from workbench.define.files import own_file, replace_text
from workbench.define.project import Project
from workbench.errors import UseError
from workbench.records import Json

Fate = Literal["carried", "approximated", "left"]


class Left(Exception):
    """Something of the source that can't be carried over; the message names it and says why."""

    def __init__(self, message: str, place: str = "") -> None:
        """`place`: the file, and its line, where the caller does not know them."""
        super().__init__(message)
        self.place = place


def mapping(value: Json, what: str) -> dict[str, Json]:
    """The value where it is a mapping with texts as keys, an empty one for none; raises Left for anything else."""
    if value is None or value == "":
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise Left(f"{what} that is no mapping")
    return value


@dataclass(frozen=True, slots=True)
class Line:
    """One thing of the source, and what became of it."""

    what: str
    fate: Fate
    note: str = ""


@dataclass
class Report:
    """An import as it stands. It is refused as soon as anything is left: half a suite measures something else."""

    source: str
    lines: list[Line] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """Relative path → text."""

    @property
    def refused(self) -> str:
        """The reasons, in one line; empty where the import stands."""
        return "; ".join(dict.fromkeys(f"{x.what}: {x.note}" for x in self.lines if x.fate == "left"))

    def add(self, what: str, fate: Fate, note: str = "") -> None:
        line = Line(what, fate, note)
        if line not in self.lines:
            self.lines.append(line)

    def count(self, fate: Fate) -> int:
        return sum(line.fate == fate for line in self.lines)


def write_files(files: Mapping[str, str], root: Path) -> list[Path]:
    """Writes the files below a folder; raises UseError, and writes nothing, where one of them is there already."""
    project = Project(root.resolve(), "")
    targets = {own_file(project, name): text for name, text in files.items()}
    if there := [path for path in targets if path.exists()]:
        raise UseError(f"{there[0]} exists already; nothing was written: choose another folder with --out")
    for path, text in targets.items():
        replace_text(path, text)
    return list(targets)
