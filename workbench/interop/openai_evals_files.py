"""Files of OpenAI's evals (https://github.com/openai/evals): a registry's YAML, samples in JSONL, graded specs.

A registry is a folder with `evals/*.yaml`, `data/` and `modelgraded/*.yaml` (`evals/registry.py`); of all files only
those inside it are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.define.yamlfile import Located, read_yaml
from workbench.errors import FileError, UnknownName
from workbench.interop import promptfoo_files as files
from workbench.interop.report import Left
from workbench.records import Json

POINTER = "version https://git-lfs.github.com/"
NAMES = {"example_user": "user", "example_assistant": "assistant"}
"""Names by which a system message is an example of a turn, and the role of such a turn."""
ROLES = ("system", "user", "assistant", "developer")


@dataclass(frozen=True, slots=True)
class Spec:
    """An eval: NAME.SPLIT.VERSION with its class and its arguments."""

    name: str
    description: str
    kind: str
    """The class, such as `evals.elsuite.basic.match:Match`."""
    args: Mapping[str, Json]
    place: str
    """File and line."""

    @property
    def base(self) -> str:
        return self.name.split(".")[0]


@dataclass(frozen=True, slots=True)
class Sample:
    """A line of a samples file."""

    values: dict[str, Json]
    place: str


def registry_of(path: Path) -> Path:
    """The registry that a YAML file of evals lies in."""
    return path.resolve().parent.parent if path.resolve().parent.name == "evals" else path.resolve().parent


def read_specs(path: Path, wanted: str | None) -> list[Spec]:
    """The evals of a file, or the one of that name, with or without split and version; raises Left, UnknownName."""
    located = _located(path)
    found: list[Spec] = []
    bases = {n: entry for n, entry in located.data.items() if isinstance(entry, dict) and "class" not in entry}
    for name, entry in located.data.items():
        if not isinstance(entry, dict) or "class" not in entry:
            continue
        place = f"{path.name}:{located.line((name,))}"
        args = entry.get("args") or {}
        if odd := entry.keys() - {"class", "args"}:
            raise Left(f"'{min(odd)}' of {name}", place)
        if "." not in name or not isinstance(args, dict):
            raise Left(f"{name} is no NAME.SPLIT with args", place)
        about = bases.get(name.split(".")[0]) or {}
        found.append(Spec(name, str(about.get("description") or ""), str(entry["class"]), args, place))
    if wanted is not None:
        target = str((bases.get(wanted) or {}).get("id", wanted))
        chosen = [spec for spec in found if spec.name == target]
        if not chosen:
            raise UnknownName("eval", wanted, {*(s.name for s in found), *bases})
        return chosen
    if not found:
        raise Left("it holds no eval with a class; sets of evals have no counterpart", path.name)
    return found


def graded_spec(registry: Path, name: str) -> tuple[Mapping[str, Json], str]:
    """The spec of that name below `modelgraded/`, and its place; raises Left."""
    for path in sorted((registry / "modelgraded").rglob("*.yaml")):
        if path.resolve().is_relative_to(registry):
            located = _located(path)
            if isinstance(found := located.data.get(name), dict):
                return found, f"{path.name}:{located.line((name,))}"
    raise Left(f"there is no modelgraded_spec '{name}' in {registry.name}/modelgraded")


def read_samples(name: Json, path: Path) -> list[Sample]:
    """The samples of the file that an eval in `path` names: below the registry's `data/`, or beside the YAML."""
    registry = registry_of(path)
    places = [registry / "data", path.resolve().parent]
    if not isinstance(name, str) or not name.endswith(".jsonl"):
        raise Left(f"samples in '{name}', which is no JSONL file")
    base = next((base for base in places if (base / name).is_file()), places[0])
    return samples_in(*files.find(base, name, registry))


def samples_in(path: Path) -> list[Sample]:
    """Each line of a JSONL file; raises Left with the line that is none."""
    text = files.read(path)
    if text.startswith(POINTER):
        raise Left("it is a pointer of Git LFS; fetch the file itself with: git lfs pull", path.name)
    found = list(_lines(text, path.name))
    if not found:
        raise Left("it holds no samples", path.name)
    return found


def messages_of(given: Json, place: str) -> tuple[list[dict[str, str]], list[str]]:
    """A sample's input as messages, and what was only approximated.

    Text is one system message, as evals makes it for chat models (`evals/prompt/base.py`)."""
    if isinstance(given, str) and given:
        return [{"role": "system", "content": given}], ["a text is asked as a system message, as there of chat models"]
    if not isinstance(given, list) or not given:
        raise Left("an input that is neither text nor messages", place)
    found, notes = [], []
    for message in given:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise Left("a message without text", place)
        role, name = message.get("role"), message.get("name")
        if role not in ROLES or (odd := message.keys() - {"role", "content", "name"}):
            raise Left(f"a message of the role '{role}'" if role not in ROLES else f"'{min(odd)}' of a message", place)
        if name is not None:
            if role != "system" or name not in NAMES:
                raise Left(f"a message with the name '{name}'", place)
            role = NAMES[name]
            notes.append("system messages with the names example_user and example_assistant are turns of these roles")
        found.append({"role": str(role), "content": message["content"]})
    return found, notes


def _located(path: Path) -> Located:
    try:
        return read_yaml(path, path.name)
    except FileError as error:
        place = f"{error.path or path.name}" + (f":{error.line}" if error.line else "")
        raise Left(error.message, place) from error


def _lines(text: str, shown: str) -> Iterator[Sample]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise Left(f"it is not JSON: {error}", f"{shown}:{number}") from error
            if not isinstance(values, dict):
                raise Left("a sample is {input: …, ideal: …}", f"{shown}:{number}")
            yield Sample(values, f"{shown}:{number}")
