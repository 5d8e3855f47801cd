"""`workbench report`: a run as a page, for data tools, or for CI."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from workbench.cli.gate import Judged, baseline_option, judge
from workbench.cli.session import Session
from workbench.define.baseline import Baseline
from workbench.define.library import diff
from workbench.errors import UseError
from workbench.records import Prompt, Run
from workbench.store import runs as stored
from workbench.store.prompts import find_revision
from workbench.views.comment import CommentData, NewFailure, PromptChange, comment
from workbench.views.github import annotation_lines, command
from workbench.views.gitlab import code_quality_report
from workbench.views.junit import junit_report
from workbench.views.model import RunView, load_whole
from workbench.views.plain import json_text, plain
from workbench.views.write import WRITERS, write_chunks, write_report

CI_FORMS = {
    "junit": "junit.xml",
    "github": "summary.md",
    "comment": "comment.md",
    "annotations": "annotations.txt",
    "gitlab": "gl-code-quality-report.json",
}
"""Form: how its file's name ends."""
MOST_FAILURES = 10


@click.command()
@click.argument("run")
@click.option("--to", "form", type=click.Choice([*WRITERS, *CI_FORMS]), default="html", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file; default: reports/RUN.FORMAT.")
@baseline_option
@click.pass_obj
def report(session: Session, run: str, form: str, out: Path | None, baseline_file: Path | None) -> None:
    """Write RUN as one file; '--out -' prints it. The gates that it had are judged anew.

    md, html, json, csv; for CI: junit (XML), comment (Markdown for a pull request), github (the same for a
    step summary), annotations (workflow commands), gitlab (Code Quality).
    """
    with session.database().read() as connection:
        found = stored.get_run(connection, run)
        printed = out is not None and str(out) == "-"
        path = out or session.project.root / "reports" / f"{found.id}.{CI_FORMS.get(form, form)}"
        _write(session, connection, found, (form, baseline_file), sys.stdout if printed else path)
    if not printed:
        click.echo(path)


def _write(session: Session, connection: Any, run: Run, asked: tuple[str, Path | None], target: Any) -> None:
    form, baseline_file = asked
    judged, problem = _judged(session, connection, run, baseline_file)
    view = replace(load_whole(connection, run.id), gates=judged.report if judged else None)
    rows = stored.trial_rows(connection, run.id)
    if form in WRITERS:
        write_report(view, rows, form, target)
    else:
        write_chunks(iter(_chunks(session, connection, form, (view, rows, judged, problem))), target)


def _judged(session: Session, connection: Any, run: Run, baseline_file: Path | None) -> tuple[Judged | None, str]:
    """How the gates stand; or why they can't be judged, empty where there are none, or only cases of a shard."""
    gates = run.header.get("gates", ())
    if not gates or run.header.get("shard"):
        return None, ""
    try:
        judged = judge(session, connection, run, gates, baseline_file)
        return judged, judged.report.problem
    except UseError as error:
        return None, str(error)


def _chunks(
    session: Session,
    connection: Any,
    form: str,
    parts: tuple[RunView, Iterable[stored.TrialRow], Judged | None, str],
) -> Iterable[str]:
    view, rows, judged, problem = parts
    gates = judged.report if judged else None
    if form == "junit":
        return junit_report(view, rows, gates, problem)
    file = _from_workspace(session.project.root, view.run.header.get("path"))
    if form == "annotations":
        told = list(annotation_lines(gates, file)) if gates else []
        title = "The run is not whole" if gates else "Gates could not be judged"
        return told + ([command("error", title, problem, file, None)] if problem else [])
    if form == "gitlab":
        return [code_quality_report(gates, file or view.run.suite, problem)]
    baseline = judged.baseline if judged else None
    return [
        comment(
            CommentData(
                view,
                gates,
                problem,
                changes=_changes(session, connection, view, baseline) if baseline else (),
                failures=_failures(connection, view, baseline) if baseline else (),
            )
        )
    ]


def _from_workspace(root: Path, path: str | None) -> str | None:
    """The suite's file as GitHub's and GitLab's runners name it: from the top of the repository they checked out."""
    workspace = os.environ.get("GITHUB_WORKSPACE") or os.environ.get("CI_PROJECT_DIR")
    if path is None or not workspace:
        return path
    file = (root / path).resolve()
    top = Path(workspace).resolve()
    return file.relative_to(top).as_posix() if file.is_relative_to(top) else path


def _changes(session: Session, connection: Any, view: RunView, baseline: Baseline) -> list[PromptChange]:
    """The prompts whose revision is not the baseline's, each once."""
    from workbench.gates.check import counterpart

    found: dict[tuple[str, str], PromptChange] = {}
    for variant in view.variants:
        twin = counterpart(baseline, variant)
        if twin is None or twin.revision == variant.revision or (twin.revision, variant.revision) in found:
            continue
        before = _text(session, connection, variant.prompt, twin.revision)
        after = _text(session, connection, variant.prompt, variant.revision)
        told = diff(before, after) if before and after else ""
        found[twin.revision, variant.revision] = PromptChange(variant.prompt, twin.revision, variant.revision, told)
    return list(found.values())


def _text(session: Session, connection: Any, name: str, revision: str) -> Prompt | None:
    """A revision's text: from the library, git, or the store; None where none has it."""
    try:
        return session.library.find(f"{name}@{revision}")
    except UseError:
        pass
    try:
        if found := session.library.in_git(name, revision):
            return found
        recorded = find_revision(connection, name, revision)
        return session.library.parse(recorded[0].text, name, recorded[0].partials) if recorded else None
    except UseError:
        return None


def _failures(connection: Any, view: RunView, baseline: Baseline) -> Sequence[NewFailure]:
    """The cases that were right in the baseline and are not now, the worst with their texts."""
    from workbench.gates.check import case_changes

    lost = [c for c in case_changes(connection, view.run, baseline) if c.after < c.before and c.before == 1]
    failures = []
    for i, change in enumerate(lost):
        expected = output = reason = ""
        if i < MOST_FAILURES:
            chosen = stored.TrialFilter((change.variant,), change.case)
            for row in stored.trial_rows(connection, view.run.id, chosen):
                score = next((s for s in row.scores if s.scorer == change.scorer and s.value != 1), None)
                if score and row.output:
                    expected = row.expected if isinstance(row.expected, str) else json_text(plain(row.expected))
                    output, reason = row.output.text, score.reason
                    break
        label = view.labels[change.variant]
        failures.append(
            NewFailure(change.case, label, change.scorer, change.before, change.after, expected, output, reason)
        )
    return failures
