"""What GitHub's runner reads: workflow commands that become annotations at a line of a file.

`::error file=…,line=…,title=…::message`, with the runner's own escapes (actions/toolkit, core/src/command.ts).
"""

from __future__ import annotations

from collections.abc import Iterator

from workbench.stats.gates import GateReport
from workbench.views import format as f
from workbench.views.gates import numbers

_LEVELS = {"fail": ("error", "Gate failed"), "not enough data": ("warning", "Not enough data")}


def annotation_lines(report: GateReport, suite_file: str | None) -> Iterator[str]:
    """An error for each gate that failed, a warning for each that lacks data, a notice for each note."""
    for result in report.results:
        if result.answer in _LEVELS:
            level, title = _LEVELS[result.answer]
            yield command(level, title, f"{result.gate} · {result.label}: {numbers(result)}", suite_file, result.line)
    for note in report.notes:
        yield command("notice", "Gates", note, suite_file, None)


def command(level: str, title: str, message: str, file: str | None, line: int | None) -> str:
    """One workflow command, on one line."""
    places = {"file": file, "line": line if file else None, "title": title}
    told = ",".join(f"{name}={_property(str(value))}" for name, value in places.items() if value is not None)
    return f"::{level} {told}::{_data(f.one_line(message))}\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(f.one_line(text)).replace(":", "%3A").replace(",", "%2C")
