"""GitLab's Code Quality report: a finding for each gate that failed or lacks data, at its line of the suite.

A JSON list in the form that GitLab documents (docs.gitlab.com/ci/testing/code_quality, "Code quality report format"):
`description`, `check_name`, `fingerprint`, `severity`, `location.path`, `location.lines.begin`. A fingerprint says
which finding it is, so that a merge request shows what came and what went: it leaves the measured numbers out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from workbench.records import Json
from workbench.stats.gates import GateReport
from workbench.views import format as f
from workbench.views.gates import numbers
from workbench.views.plain import json_text

_SEVERITIES = {"fail": "major", "not enough data": "minor"}


def code_quality_report(report: GateReport | None, file: str, problem: str = "") -> str:
    """The file; `problem` says why the gates could not be judged, or the run is not whole; `file` is the suite's, from
    the repository's top."""
    return json_text(list(_findings(report, file, problem))) + "\n"


def _findings(report: GateReport | None, file: str, problem: str) -> Iterator[Json]:
    if problem:
        what = "the run is not whole" if report else "gates could not be judged"
        yield _finding("critical", "gates", (file, 1), f"{what}: {problem}", "")
    for result in report.results if report else ():
        if result.answer in _SEVERITIES:
            told = f"{result.gate} · {result.label}: {result.answer}: {numbers(result)}"
            place = (file, result.line or 1)
            yield _finding(_SEVERITIES[result.answer], result.gate, place, told, f"{result.label}\0{result.answer}")
    for note in report.notes if report else ():
        yield _finding("info", "gates", (file, 1), note, note)


def _finding(severity: str, check: str, place: tuple[str, int], description: str, which: str) -> Json:
    path, line = place
    return {
        "description": f.one_line(description),
        "check_name": f.one_line(check),
        "fingerprint": hashlib.sha256("\0".join((path, check, which)).encode("utf-8", "surrogatepass")).hexdigest(),
        "severity": severity,
        "location": {"path": path, "lines": {"begin": line}},
    }
