"""JUnit XML: a test for each gate and variant, and one for each case and variant by each pass/fail scorer.

The form is that of Jenkins' xunit plug-in (`junit-10.xsd`). A case that a scorer fails is a failure here as
it is in any test report; whether the run is good enough is what the gates say, which stand first. A quarantined case
is skipped, with what would have been said; a property of both says how many there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from xml.etree import ElementTree as Xml

from workbench.stats.gates import GateReport
from workbench.store.runs import TrialRow
from workbench.views import format as f
from workbench.views.gates import numbers
from workbench.views.model import RunView

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no character for (section 2.2)."""


def junit_report(
    view: RunView, rows: Iterable[TrialRow], report: GateReport | None, problem: str = ""
) -> Iterator[str]:
    """The file in pieces; `problem` says why the gates could not be judged, or the run is not whole."""
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    root = Xml.Element("testsuites", name=_text(view.run.suite))
    root.append(_suite(f"{view.run.suite}: gates", view, _gate_tests(report, problem)))
    scorers = [s.name for s in view.scorers if s.kind == "pass"]
    root.append(_suite(f"{view.run.suite}: cases", view, _case_tests(view, rows, scorers)))
    Xml.indent(root)
    yield Xml.tostring(root, encoding="unicode") + "\n"


def _suite(name: str, view: RunView, tests: Iterable[Xml.Element]) -> Xml.Element:
    found = list(tests)
    kinds = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    counts = {name: str(sum(t.find(tag) is not None for t in found)) for name, tag in kinds.items()}
    suite = Xml.Element("testsuite", {"name": _text(name), "tests": str(len(found)), **counts})
    suite.set("timestamp", view.run.started[:19])
    if view.quarantined:
        properties = Xml.SubElement(suite, "properties")
        Xml.SubElement(properties, "property", name="cases", value=f.left_out(len(view.quarantined)))
    suite.extend(found)
    return suite


def _gate_tests(report: GateReport | None, problem: str) -> Iterator[Xml.Element]:
    if problem:
        yield _test("gates", "gates", "error", problem)
    for result in report.results if report else ():
        kind = {"fail": "failure", "not enough data": "skipped"}.get(result.answer)
        yield _test("gates", f"{result.gate} [{result.label}]", kind, f"{result.answer}: {numbers(result)}")


def _case_tests(view: RunView, rows: Iterable[TrialRow], scorers: list[str]) -> Iterator[Xml.Element]:
    """Rows come by case, variant and repeat: the repeats of a case are one test."""
    labels = view.labels
    for (case, variant), trials in groupby(rows, lambda row: (row.case_id, row.variant_id)):
        repeats = list(trials)
        for scorer in scorers:
            kind, told = _verdict(repeats, scorer)
            if repeats[0].quarantined:
                kind, told = "skipped", f"quarantined: {told or 'passed'}"
            yield _test(f"{labels.get(variant, variant)}.{scorer}", case, kind, told)


def _verdict(repeats: list[TrialRow], scorer: str) -> tuple[str | None, str]:
    """How a case's test ends, and its message: an error without an answer, a failure where any repeat fails."""
    for row in repeats:
        if row.output is not None and row.output.failure is not None:
            return "error", f"{row.output.failure.kind}: {row.output.failure.message}"
    found = [(score, row) for row in repeats for score in row.scores if score.scorer == scorer]
    scored = [(score, row) for score, row in found if score.value is not None]
    if not scored:
        return "skipped", found[0][0].reason if found else "not scored"
    wrong = [(score, row) for score, row in scored if score.value != 1]
    if not wrong:
        return None, ""
    score, row = wrong[0]
    answer = "" if row.output is None else f.shorten(row.output.text, 1000)
    share = f"{len(wrong)} of {len(scored)} repeats: " if len(scored) > 1 else ""
    return "failure", f"{share}{score.reason}\nanswer: {answer}"


def _test(classname: str, name: str, kind: str | None, message: str) -> Xml.Element:
    test = Xml.Element("testcase", classname=_text(classname), name=_text(name))
    if kind:
        detail = Xml.SubElement(test, kind, message=_text(f.shorten(message.split("\n", 1)[0], 300)))
        detail.text = _block(message)
    return test


def _text(text: str) -> str:
    return _NO_XML.sub("�", f.one_line(text))


def _block(text: str) -> str:
    return _NO_XML.sub("�", f.printable(text))
