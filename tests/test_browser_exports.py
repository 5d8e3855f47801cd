"""In a real browser: what is saved from the page. Charts as PNG, tables without live formulas."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import pytest
from doubles.browser import chromium, served

from workbench.define.project import load_project
from workbench.store.database import Database
from workbench.store.runs import list_runs, trial_rows
from workbench.store.votes import keep_vote

pytestmark = pytest.mark.slow
MILLISECONDS = 90_000
LIVE = ("=HYPERLINK(1)", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1", " =1+1")
"""What a spreadsheet computes, or passes on: each is an answer, a case's name, an input and a prompt's variable."""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for folder in ("prompts", "evals", "data"):
        (root / folder).mkdir()
    (root / "prompts/one.prompty").write_text("user:\nOne {{ who }}")
    (root / "prompts/two.prompty").write_text("user:\nTwo {{ who }}")
    answers = {f"{number}$": live for number, live in enumerate(LIVE)}
    (root / "workbench.yaml").write_text(
        json.dumps({"models": {"house": {"engine": "echo", "options": {"answers": answers}}}})
    )
    rows = [{"id": live, "who": f"{live} {number}", "expected": live} for number, live in enumerate(LIVE)]
    (root / "data/live.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = {"prompts": ["one", "two"], "models": ["house"], "params": {"temperature": [0, 1], "max_tokens": 99}}
    suite |= {"cases": "data/live.jsonl", "scorers": ["contains", "length"]}
    (root / "evals/greet.yaml").write_text(json.dumps(suite))
    command = [sys.executable, "-m", "workbench", "--project", str(root), "run", "greet", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    _vote(root)
    return root


def _vote(root: Path) -> None:
    """Two people on the same pair, so that the results have a table and an agreement."""
    with closing(Database.open(load_project(root).store_url)) as database, database.write() as connection:
        run = list_runs(connection)[0].id
        case: dict[str, list[str]] = {}
        for trial in trial_rows(connection, run):
            case.setdefault(trial.case_id, []).append(trial.trial_id)
        for trials in list(case.values())[:3]:
            for rater in ("=Eva", "Ben"):
                keep_vote(connection, run, rater, (trials[0], trials[1]), "first")


@pytest.fixture(scope="module")
def address(project: Path) -> Iterator[str]:
    with served(project) as (found, _):
        yield found


@pytest.fixture
def page(browser):
    found = browser.new_page(viewport={"width": 1280, "height": 1000})
    found.set_default_timeout(MILLISECONDS)
    yield found
    found.close()


def settled(page) -> None:
    page.wait_for_selector("[data-testid=stHeading], [data-testid=stAlert]")
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_timeout(700)


def saved(page, press) -> bytes:
    with page.expect_download() as download:
        press()
    return Path(download.value.path()).read_bytes()


@pytest.mark.parametrize("place", ["/", "/compare?view=axes&axis=temperature", "/compare?view=parallel", "/models"])
def test_a_chart_is_saved_as_a_picture(page, address: str, place: str) -> None:
    """As PNG by the chart's own toolbar, as SVG by a button below it."""
    page.goto(address + place)
    settled(page)
    page.get_by_test_id("stVegaLiteChart").first.wait_for()
    png = page.get_by_role("button", name="Download as PNG", exact=True).first  # by key: it shows where a mouse is
    data = saved(page, lambda: png.press("Enter"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR"
    assert int.from_bytes(data[16:20], "big") > 300, "as wide as it is shown"
    drawn = saved(page, page.get_by_role("button", name=re.compile(" as SVG$")).first.click).decode()
    root = ElementTree.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}text"))) > 3, "its axes are lettered"
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


@pytest.mark.parametrize(
    ("place", "label"),
    [
        ("/compare?view=outputs", "CSV"),
        ("/compare?view=cases", "CSV"),
        ("/compare?view=scores", "CSV"),
        ("/runs", "CSV"),
        ("/sweep?suite=greet", "These rows as CSV"),
        ("/judge?rater=Ben", "Votes as CSV"),
    ],
)
def test_what_is_saved_computes_nothing(page, address: str, place: str, label: str) -> None:
    page.goto(address + place)
    settled(page)
    if place.startswith("/judge"):
        page.get_by_text("Results (they name the variants)").click()
    button = page.get_by_test_id("stDownloadButton").get_by_role("button", name=label, exact=True).first
    text = saved(page, button.click).decode("utf-8")
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    number = re.compile(r"[-+]?[\d.,]+( .*)?")
    assert [cell for cell in cells if re.match(r"\s*[=+\-@]|[\t\r\n]", cell) and not number.fullmatch(cell)] == []
    if place != "/runs" and "scores" not in place:
        assert any("=" in cell for cell in cells), "the hostile cells are there, disarmed"


def test_the_plan_and_the_suite_are_saved(page, address: str, project: Path) -> None:
    page.goto(f"{address}/sweep?suite=greet")
    settled(page)
    page.get_by_role("button", name="Check", exact=True).click()
    plan = page.get_by_role("button", name="Plan as Markdown")
    assert b"| trials | 28 |" in saved(page, plan.click)
    page.get_by_test_id("stExpander").last.locator("summary").click()
    text = page.get_by_test_id("stDownloadButton").get_by_role("button", name="YAML", exact=True)
    suite = saved(page, lambda: text.press("Enter"))  # a click may miss it, while what it lies in still unfolds
    assert suite == (project / "evals/greet.yaml").read_bytes()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_results_by_eye_are_accessible(browser, address: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
    page.set_default_timeout(MILLISECONDS)
    page.goto(f"{address}/judge?rater=Ben")
    settled(page)
    page.get_by_text("Results (they name the variants)").click()
    page.get_by_text("6 votes by 2").wait_for()
    page.get_by_test_id("stDataFrame").last.wait_for()
    settled(page)
    found = axe.Axe().run(page).response["violations"]
    page.close()
    serious = [(v["id"], n["html"][:160]) for v in found for n in v["nodes"] if n["impact"] in ("serious", "critical")]
    assert serious == []
