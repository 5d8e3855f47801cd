"""Which suites ask something else than at a git ref.

The project's folder as it was at the ref is laid out in a temporary folder, and each suite is read there and here:
what is compared is what a run would use, prompts with their partials, cases, models, scorers and gates, not the
files' dates or comments. Files that scorers and models name (`evals/mine.py:polite`), judges' prompts and models
are compared too; what those files import is not seen. A suite that could not be read there counts as changed.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from workbench.define.git import folder_at, is_ignored, resolve_ref
from workbench.define.library import Library
from workbench.define.project import Project, load_project
from workbench.define.suite import find_suite, load_suite
from workbench.errors import UseError, WorkbenchError
from workbench.records import Json, Suite, canonical


def changed_suites(
    project: Project, names: Sequence[str], ref: str, scorer_names: Collection[str] | None = None
) -> list[str]:
    """Those of the suites that changed since a git ref, uncommitted edits included; also those that can't be read
    now, whose run will tell why. Raises UseError where git does not know the ref."""
    commit = resolve_ref(project.root, ref)
    if commit is None:
        raise UseError(
            f"git knows no '{ref}' in {project.root}; fetch it first (a shallow clone has it not: fetch-depth: 0)"
        )
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        before = Path(folder).resolve()
        _lay_out(folder_at(project.root, commit), before)
        return [name for name in names if _differs(project, name, before, scorer_names)]


def _lay_out(archive: bytes, folder: Path) -> None:
    """Unpacks git's archive; links that would lead outside are left out."""

    def inside(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        try:
            return tarfile.data_filter(member, path)
        except tarfile.FilterError:
            return None

    if archive:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter=inside)  # noqa: S202 - filtered


def _differs(project: Project, name: str, folder: Path, scorer_names: Collection[str] | None) -> bool:
    try:
        path = find_suite(name, project).resolve().relative_to(project.root.resolve())
        now = _terms(project, name, scorer_names)
        return now != _terms(load_project(folder), str(folder / path), None)
    except (WorkbenchError, ValueError):
        return True


def _terms(project: Project, name: str, scorer_names: Collection[str] | None) -> str:
    """All that a run of the suite rests on, as text that is the same in every folder."""
    library = Library(project.library_root, project.references)
    suite = load_suite(name, project, library, scorer_names)
    settings = [[spec.settings for spec in suite.scorers], [model.settings for model in suite.models.values()]]
    settings.append([{"models": suite.retrieve.get("models", [])}])
    named = sorted(set(_texts([[dict(s) for s in part] for part in settings])))
    prompts = {text: library.find(text).revision for text in named if text.partition("@")[0] in library.names()}
    models = {text: asdict(project.models[text]) for text in named if text in project.models}
    files = {text: found for text in named if (found := _file(project, text)) is not None}
    terms = [_about(suite), prompts, models, files]
    return canonical(terms).replace(str(project.root.resolve()), "").replace(str(project.root), "")


def _about(suite: Suite) -> list[Json]:
    """A suite without its file's text and line numbers."""
    cases = [[c.id, c.key, list(c.tags), c.cluster, c.quarantined] for c in suite.cases]
    scorers = [[s.name, s.scorer, dict(s.settings), s.expected] for s in suite.scorers]
    models = [[m.alias, m.engine, dict(m.settings), dict(m.price or {}), dict(m.limits)] for m in suite.models.values()]
    gates = [{name: value for name, value in gate.items() if name != "line"} for gate in suite.gates]
    rules = [dict(rule) for rule in (suite.until, suite.race, suite.budget, suite.reuse, suite.retrieve)]
    numbers = [suite.repeats, suite.seed, suite.block, suite.margin, suite.allow_failed]
    return [suite.name, suite.reference, [v.id for v in suite.variants], cases, scorers, models, gates, rules, numbers]


def _texts(value: Json) -> Iterator[str]:
    """All texts inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _file(project: Project, text: str) -> str | None:
    """The content of the project's file that a setting names (`evals/mine.py:polite`), as hexadecimal digits; None
    where it names none, or one that git ignores, of which nothing is known."""
    name = text.rpartition(":")[0] if ":" in text else text
    if not name or "\n" in name or len(name) > 500:
        return None
    try:
        path = project.path(name)
    except UseError:
        return None
    return None if is_ignored(project.root, name) else path.read_bytes().hex()
