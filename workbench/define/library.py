"""The library: the prompts of the folder `prompts/`, their labels and labelled revisions.

Labels (`labels.json`) and the texts of labelled revisions (`.revisions/REVISION.prompty`, partials inside)
are files in git: what a label means never depends on the store. A label always writes its revision's text, so
it outlives every edit of the prompt.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from workbench.define.files import replace_text
from workbench.define.frontmatter import read_front_matter, split_file, without_partials
from workbench.define.git import file_at, file_at_folder, file_commits
from workbench.define.prompt import ENDING, parse_prompt, self_contained
from workbench.define.template import Reference, template_references
from workbench.define.yamlfile import decode
from workbench.errors import PromptError, UnknownName, UseError, suggest
from workbench.records import Json, Prompt

REVISION = re.compile(r"(?:pr1-)?([0-9a-f]{4,32})")
LABEL = re.compile(r"[A-Za-z0-9][\w.-]*")
MAX_COMMITS = 100
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Change:
    """A revision as history knows it."""

    revision: str
    parent: str | None
    time: str
    author: str
    message: str


class Library:
    """The prompts below a folder. A prompt's name is its path there, without the ending."""

    def __init__(self, root: Path, allow: frozenset[str] = frozenset()) -> None:
        """`allow` names the references (`env:NAME`, `file:PATH` below the folder) that prompts may use."""
        self.root = root
        self._allowed = _reference_values(root, allow)

    def names(self) -> list[str]:
        """All prompts, sorted."""
        files = self.root.rglob("*" + ENDING) if self.root.is_dir() else ()
        names = (f.relative_to(self.root).as_posix().removesuffix(ENDING) for f in files if f.is_file())
        return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))

    def get(self, name: str) -> Prompt:
        """The prompt as its file is now; raises UnknownName or PromptError."""
        path = self.path_of(name)
        if not path.is_file():
            raise UnknownName("prompt", name, self.names())
        return self._parse(self._text(name + ENDING), name, self._shown(name + ENDING), self._partial)

    def find(self, ref: str) -> Prompt:
        """`NAME` (the file), `NAME@LABEL` or `NAME@REVISION`, of which four characters are enough.

        Raises UnknownName or PromptError.
        """
        name, _, version = ref.partition("@")
        if not version:
            return self.get(name)
        self.path_of(name)
        labels = self.labels(name)
        if version in labels:
            return self._revision(name, labels[version])
        asked = REVISION.fullmatch(version)
        on_disk = self._on_disk(name)
        if on_disk is None and not labels:
            raise UnknownName("prompt", name, {*self.names(), *self._read_labels()})
        known = {*labels.values(), *([on_disk.revision] if on_disk else [])}
        fitting = [r for r in known if asked and r.startswith(f"pr1-{asked[1]}")]
        if len(fitting) > 1:
            raise UseError(f"'{ref}' fits {len(fitting)} revisions; write more of it: {', '.join(sorted(fitting))}")
        if not fitting:
            raise UnknownName(f"label or revision of prompt '{name}'", version, labels)
        return self._revision(name, fitting[0])

    def labels(self, name: str) -> dict[str, str]:
        """Label → revision."""
        return dict(self._read_labels().get(name, {}))

    def label(self, name: str, label: str, ref: str | Prompt) -> Prompt:
        """Moves a label of a prompt to a revision, which is written beside it; raises UseError for a bad label."""
        if not LABEL.fullmatch(label) or REVISION.fullmatch(label):
            raise UseError(f"'{label}' is no label; use letters, digits, '.', '_', '-', unlike a revision's hash")
        prompt = ref if isinstance(ref, Prompt) else self.find(ref)
        if prompt.name != name:
            raise UseError(f"a label of '{name}' can't name a revision of '{prompt.name}'")
        replace_text(self._revision_file(prompt.revision), self_contained(prompt, self._allowed))
        labels = self._read_labels()
        labels.setdefault(name, {})[label] = prompt.revision
        self._write_labels(labels)
        return prompt

    def git_history(self, name: str) -> list[Change]:
        """The revisions that commits of the prompt's file made, newest first; empty without git.

        Partials are taken as they were at each commit; one that changed a partial alone is not seen. A commit
        whose file can't be read as a prompt is left out.
        """
        self.path_of(name)
        found: list[Change] = []
        for commit in reversed(file_commits(self.root, name + ENDING, MAX_COMMITS)):
            text = file_at(self.root, commit.id, commit.file)
            revision = None if text is None else self._revision_at(commit.id, text, name)
            if revision and (not found or found[-1].revision != revision):
                parent = found[-1].revision if found else None
                found.append(Change(revision, parent, commit.time, commit.author, commit.subject))
        return found[::-1]

    def in_git(self, name: str, revision: str) -> Prompt | None:
        """A revision as the newest commit that has it wrote it, partials as they were; None where there is none."""
        self.path_of(name)
        for commit in file_commits(self.root, name + ENDING, MAX_COMMITS):
            text = file_at(self.root, commit.id, commit.file)
            if text is not None and self._revision_at(commit.id, text, name) == revision:
                read = partial(file_at_folder, self.root, commit.id)
                return self._parse(text, name, f"{commit.id[:8]}:{name}{ENDING}", read)
        return None

    def _revision_at(self, commit: str, text: str, name: str) -> str | None:
        try:
            read = partial(file_at_folder, self.root, commit)
            return self._parse(text, name, f"{commit[:8]}:{name}{ENDING}", read).revision
        except PromptError:
            return None

    def parse(self, text: str, name: str, partials: Mapping[str, str]) -> Prompt:
        """A prompt from a text that is kept elsewhere; raises PromptError."""
        return parse_prompt(text, name, f"{name}{ENDING}", partials, self._allowed)

    def draft(self, name: str, text: str) -> Prompt:
        """The prompt that the file of that name would be with that text; raises PromptError."""
        self.path_of(name)
        return self._parse(text, name, self._shown(name + ENDING), self._partial)

    def text(self, name: str) -> str:
        """The text of a prompt's file, readable as a prompt or not; raises UnknownName or PromptError."""
        if not self.path_of(name).is_file():
            raise UnknownName("prompt", name, self.names())
        return self._text(name + ENDING)

    def save(self, name: str, text: str, was: str | None) -> Prompt:
        """Writes a prompt's file; `was` is the text that it had when it was opened, None for a new prompt.

        Raises PromptError for a text that is no prompt, UseError where the file is another by now, or a link.
        """
        prompt = self.draft(name, text)
        path = self._own_file(name)
        if was is None:
            if not name.isprintable():
                raise UseError("a prompt's name is one line of plain characters")
            if path.exists():
                raise UseError(f"there is a prompt '{name}' already; choose another name")
        elif not path.is_file() or self._text(name + ENDING) != was:
            raise UseError(f"{self._shown(name + ENDING)} was changed by someone else meanwhile; load it anew")
        replace_text(path, text)
        return prompt

    def rename(self, name: str, to: str) -> Prompt:
        """Gives a prompt and its labels another name; raises UnknownName, PromptError or UseError."""
        text = self.text(name)
        source = self._own_file(name)
        prompt = self.save(to, text, None)
        labels = self._read_labels()
        if name in labels:
            labels[to] = labels.pop(name)
            self._write_labels(labels)
        source.unlink()
        return prompt

    def delete(self, name: str) -> None:
        """Removes a prompt's file. Labelled revisions stay, and can be asked for as `NAME@LABEL`."""
        self.text(name)
        self._own_file(name).unlink()

    def _own_file(self, name: str) -> Path:
        path = self.path_of(name)
        if path.resolve() != self.root.resolve() / (name + ENDING):
            raise UseError(f"{self._shown(name + ENDING)} is reached by a link; edit the file that it leads to")
        return path

    def _on_disk(self, name: str) -> Prompt | None:
        try:
            return self.get(name)
        except UseError:
            return None

    def _revision(self, name: str, revision: str) -> Prompt:
        on_disk = self._on_disk(name)
        if on_disk and on_disk.revision == revision:
            return on_disk
        file = self._revision_file(revision)
        shown = self._shown(file.relative_to(self.root).as_posix())
        if not file.is_file():
            raise PromptError(f"the text of revision {revision} of '{name}' is missing; restore it from git", shown)
        prompt = parse_prompt(self._text(file.relative_to(self.root).as_posix()), name, shown)
        if prompt.revision != revision:
            raise PromptError("a labelled revision was edited; restore it from git, and edit the prompt itself", shown)
        return prompt

    def _revision_file(self, revision: str) -> Path:
        return self.root / ".revisions" / (revision + ENDING)

    def _parse(self, text: str, name: str, shown: str, read: Callable[[str], str | None]) -> Prompt:
        """Collects what the body includes, then parses."""
        text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        own = read_front_matter(text, shown, self._allowed).data.get("partials") or {}
        _, body, offset = split_file(text, shown)
        partials: dict[str, str] = {}
        todo = [(reference, shown, offset) for reference in template_references(body, shown, offset)]
        while todo:
            reference, where, before = todo.pop()
            if reference.name in own or reference.name in partials:
                continue
            source = self._source(reference, where, before, read)
            partials[reference.name] = source
            inner = self._shown(reference.name)
            todo += [(r, inner, 0) for r in template_references(source, inner)]
        return parse_prompt(text, name, shown, partials, self._allowed)

    def _source(self, reference: Reference, where: str, before: int, read: Callable[[str], str | None]) -> str:
        """The text of a partial; raises PromptError at the place that names it."""
        name = reference.name
        try:
            found = None if name.endswith(ENDING) else read(name)
        except UseError as error:
            raise PromptError(f"the partial {error}", where, reference.line + before) from error
        if found is not None:
            return found.replace("\r\n", "\n").replace("\r", "\n")
        if name.endswith(ENDING):
            reason = "is a prompt; put what both use into a file of its own, such as 'shared.jinja'"
        else:
            files = (f.relative_to(self.root).as_posix() for f in self.root.rglob("*") if f.is_file())
            known = [f for f in files if not f.endswith((ENDING, ".json")) and not f.startswith(".")]
            reason = "is not in the library" + suggest(name, known)
        raise PromptError(f"the partial '{name}' {reason}", where, reference.line + before)

    def _partial(self, name: str) -> str | None:
        """The source of a partial in the working tree; None where there is none."""
        return self._text(name) if self._inside(name).is_file() else None

    def path_of(self, name: str) -> Path:
        """Where a prompt's file is or would be; raises UseError for a name that leads out of the library."""
        if "@" in name:
            raise UseError(f"'{name}' is no prompt's name: it holds '@'")
        return self._inside(name + ENDING)

    def _inside(self, name: str) -> Path:
        """A path below the library; raises UseError where it leaves it, also by a link."""
        parts = name.split("/")
        if "\\" in name or "\0" in name or any(part in ("", ".", "..") or part.startswith(".") for part in parts):
            raise UseError(f"'{name}' must be a path inside the library, without '..'")
        path = self.root.joinpath(*parts)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise UseError(f"'{name}' leads out of the library")
        return path

    def _text(self, name: str) -> str:
        shown = self._shown(name)
        try:
            with (self.root / name).open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise PromptError(f"can't be read: {error.strerror}", shown) from error
        if len(raw) > MAX_BYTES:
            raise PromptError(f"is larger than {MAX_BYTES >> 20} MiB", shown)
        return decode(raw, shown, PromptError)

    def _shown(self, name: str) -> str:
        return f"{self.root.name}/{name}" if self.root.name else name

    def _read_labels(self) -> dict[str, dict[str, str]]:
        file = self.root / "labels.json"
        shown = self._shown("labels.json")
        if not file.is_file():
            return {}
        try:
            labels: Json = json.loads(self._text("labels.json"))
        except ValueError as error:
            raise PromptError(f"is not JSON: {error}; restore it from git", shown) from error
        flat = isinstance(labels, dict) and all(isinstance(v, dict) for v in labels.values())
        if not flat or not all(re.fullmatch(REVISION, str(r)) for v in labels.values() for r in v.values()):
            raise PromptError("must be {name: {label: revision}}; restore it from git", shown)
        return {str(name): dict(found) for name, found in labels.items()}

    def _write_labels(self, labels: Mapping[str, Mapping[str, str]]) -> None:
        replace_text(self.root / "labels.json", json.dumps(labels, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def diff(a: Prompt, b: Prompt) -> str:
    """A unified diff of two prompts and their partials; empty where both read the same."""
    texts_a, texts_b = ({a.name + ENDING: without_partials(p.text), **p.partials} for p in (a, b))
    lines: list[str] = []
    for file in sorted({*texts_a, *texts_b}, key=lambda f: (not f.endswith(ENDING), f)):
        before, after = (texts.get(file, "").splitlines() for texts in (texts_a, texts_b))
        other = b.name + ENDING if file == a.name + ENDING else file
        lines += difflib.unified_diff(before, after, f"{file} {a.revision}", f"{other} {b.revision}", lineterm="")
    return "\n".join(lines)


def merged_history(*histories: list[Change]) -> list[Change]:
    """One history, newest first, each revision once: as the earlier list tells it, completed by the later."""
    changes: dict[str, Change] = {}
    for history in histories:
        for change in history:
            changes.setdefault(change.revision, change)
    return sorted(changes.values(), key=lambda change: change.time, reverse=True)


def _reference_values(root: Path, allow: frozenset[str]) -> dict[str, Json]:
    """The values of allowed references; one that has none is absent, and refused where it is used."""
    values: dict[str, Json] = {}
    for reference in allow:
        kind, _, target = reference.partition(":")
        if kind == "env" and target in os.environ:
            values[reference] = os.environ[target]
        elif kind == "file" and (root / target).resolve().is_relative_to(root.resolve()) and (root / target).is_file():
            text = (root / target).read_text(encoding="utf-8")
            values[reference] = json.loads(text) if target.endswith(".json") else text
    return values
