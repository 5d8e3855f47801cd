"""Which of a project's files can't be read as what they are, for whoever shows a project while it is written.

Each is looked at by itself: what a suite names (prompts, models, data) is told where the suite is used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from workbench.define.library import Library
from workbench.define.project import Project
from workbench.define.suite import ENDINGS, find_suite, suite_names
from workbench.define.suite_file import SuiteFile
from workbench.define.yamlfile import read_yaml, validate
from workbench.errors import WorkbenchError

Stamps = tuple[tuple[str, int, int], ...]
"""Of files: the path, when it was changed in nanoseconds, its bytes."""


def stamps(project: Project) -> Stamps:
    """Changes when a prompt, a partial, a label or a suite may have changed."""
    places = [project.library_root.rglob("*"), *(project.evals_root.rglob(f"*{ending}") for ending in ENDINGS)]
    found = []
    for path in (path for place in places for path in place):
        try:
            about = path.stat()
        except OSError:  # gone meanwhile, or a link that leads nowhere
            continue
        found.append((str(path), about.st_mtime_ns, about.st_size))
    return tuple(sorted(found))


def broken_files(project: Project) -> list[str]:
    """What is wrong with the prompts, their labels and the suites: a line for each file, with the place."""
    library = Library(project.library_root, project.references)
    looks: list[Callable[[], object]] = [partial(library.labels, "")]
    looks += [partial(library.get, name) for name in library.names()]
    looks += [partial(_suite, project, name) for name in suite_names(project)]
    return [problem for look in looks if (problem := _problem(look))]


def _suite(project: Project, name: str) -> None:
    path = find_suite(name, project)
    validate(SuiteFile, read_yaml(path, project.shown(path)))


def _problem(look: Callable[[], object]) -> str:
    try:
        look()
    except WorkbenchError as error:
        return str(error)
    return ""
