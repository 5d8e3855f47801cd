"""In a real browser: hostile outputs in every place that shows outputs, accessibility, and the ways through Compare."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

import pytest
from doubles.browser import chromium, served
from doubles.pages import PLACES

from workbench.define.project import load_project
from workbench.store.database import Database
from workbench.store.notes import add_note
from workbench.store.runs import list_runs
from workbench.views.screens import PAGES
from workbench.views.screens.compare import PARTS
from workbench.views.screens.prompts import VIEWS

MILLISECONDS = 90_000
EVIL = "evil.example"
HOSTILE = (
    f"<script>window.hacked=1;fetch('http://{EVIL}/a')</script> <img src=http://{EVIL}/b.png onerror=window.hacked=1> "
    f"<svg onload=window.hacked=1><image href=http://{EVIL}/c.png /></svg> [x](javascript:window.hacked=1) "
    f"![x](http://{EVIL}/d.png) <http://{EVIL}/e> <iframe src=http://{EVIL}/f></iframe> :material/home: :red[x] $x^2$ "
    f"<style>@import 'http://{EVIL}/g.css'</style> \x1b[31mred\x07 \u202egpj.exe \u2066x `y` ## z | a | b |"
)
SAME = ("outputs", "megabyte", "megabyte differing")
"""Looked at for accessibility as another place of the same part."""
STREAMLITS_OWN: dict[str, str] = {}
"""axe's rules that Streamlit's own widgets break, which nothing of ours can mend."""


def test_no_screen_is_left_out() -> None:
    """A new screen, or a new part of one, has its place here, and so is looked at in the tests below."""
    found = [urlsplit(place) for name, place in PLACES.items() if name not in SAME]
    shown = {(place.path.strip("/") or "journey", name, value) for place in found for name, value in given(place)}
    assert {screen for screen, _, _ in shown} == set(PAGES)
    assert {value for screen, name, value in shown if (screen, name) == ("compare", "view")} == set(PARTS)
    assert {value for screen, name, value in shown if (screen, name) == ("prompts", "view")} | {"editor"} == set(VIEWS)


def given(place: SplitResult) -> list[tuple[str, str]]:
    return parse_qsl(place.query) or [("", "")]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose prompts, cases and answers are all hostile."""
    root = tmp_path_factory.mktemp("project")
    text = json.dumps(HOSTILE)  # JSON is YAML
    write(root / "prompts/one.prompty", f"---\ndescription: {text}\n---\nuser:\nOne {{{{ who }}}}\n{HOSTILE}")
    write(root / "prompts/two.prompty", "user:\nTwo {{ who }}")
    answers = {"long": "x" * 1_000_000, "Two": HOSTILE + " and more", "One": HOSTILE}  # the first that fits
    echo = {"engine": "echo", "options": {"answers": answers}}
    write(root / "workbench.yaml", json.dumps({"models": {"house": echo}}))
    cases = [
        {"id": HOSTILE[:200], "who": HOSTILE, "expected": HOSTILE, "tags": [HOSTILE[:80]]},
        {"id": "long", "who": "long", "expected": "x"},
    ]
    suite = {
        "name": "greet",
        "prompts": ["one", "two"],
        "models": ["house"],
        "params": {"temperature": [0, 1], "max_tokens": 2_000_000},
    }
    write(root / "evals/greet.yaml", json.dumps({**suite, "cases": cases, "scorers": ["contains", "length"]}))
    for _ in range(2):
        command = [sys.executable, "-m", "workbench", "--project", str(root), "run", "greet"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    database = Database.open(load_project(root).store_url)
    with database.write() as connection:
        add_note(connection, list_runs(connection)[0].id, HOSTILE, HOSTILE[:200], pinned=True)
    database.close()
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(project: Path) -> Iterator[str]:
    with served(project) as (found, _):
        yield found


def settled(page) -> None:
    page.wait_for_selector("[data-testid=stHeading], [data-testid=stAlert], input", timeout=MILLISECONDS)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=MILLISECONDS)
    page.wait_for_timeout(700)


@pytest.fixture
def page(browser, address: str):
    """A page that notes where it asks and what it is asked to show."""
    found = browser.new_page(viewport={"width": 1280, "height": 900})
    found.asked, found.troubles = [], []
    found.on("request", lambda request: found.asked.append(request.url))
    found.on("websocket", lambda socket: found.asked.append(socket.url))
    found.on("dialog", lambda dialog: (found.troubles.append(dialog.message), dialog.dismiss()))
    found.on("popup", lambda popup: found.troubles.append(popup.url))
    yield found
    found.close()


def foreign(page, address: str) -> list[str]:
    own = (address, address.replace("http", "ws"), "data:", "blob:")
    return [url for url in page.asked if not url.startswith(own)]


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_hostile_text_does_nothing(page, address: str, place: str) -> None:
    page.goto(address + PLACES[place])
    settled(page)
    assert page.title(), "the page is there"
    if place in ("outputs", "difference", "markdown", "notes"):
        page.get_by_text("⟨U+202E⟩gpj").first.wait_for(timeout=MILLISECONDS)
    if place == "megabyte":
        page.get_by_text("4,000 of 1,000,000 characters shown").first.wait_for(timeout=MILLISECONDS)
    shown = page.inner_text("[data-testid=stMain]")
    if place in ("outputs", "difference", "markdown", "notes"):
        assert "<script>" in shown and "⟨U+202E⟩gpj" in shown and "␛[31m" in shown, "as text, made visible"
    assert "\x1b" not in shown and "\u202e" not in shown
    assert foreign(page, address) == []
    assert page.troubles == [] and page.evaluate("window.hacked") is None
    links = page.eval_on_selector_all(
        "[data-testid=stMain] [href], [data-testid=stMain] [src]", "all => all.map(e => e.href || e.src)"
    )
    assert not [link for link in links if EVIL in str(link) or str(link).startswith("javascript:")]


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_page(page, address: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for place in PLACES.values():
        page.goto(address + place)
        settled(page)
        main = "document.querySelector('[data-testid=stMain]')"
        assert page.evaluate(f"{main}.scrollWidth - {main}.clientWidth") <= 1, place


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(browser, address: str, scheme: str) -> None:
    """No serious finding but those of Streamlit's own widgets, which are listed."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    seen: dict[str, list[str]] = {}
    for name in [name for name in PLACES if name not in SAME]:
        page.goto(address + PLACES[name])
        settled(page)
        for finding in axe.Axe().run(page).response["violations"]:
            for node in finding["nodes"]:
                own = page.evaluate(
                    "at => !!document.querySelector(at)?.closest('[data-testid=stHtml]')", node["target"][0]
                )
                if node["impact"] in ("serious", "critical"):
                    rule = f"ours: {finding['id']}" if own else finding["id"]
                    seen.setdefault(rule, []).append(f"{name}: {node['html'][:160]}")
    page.close()
    assert {rule: places for rule, places in seen.items() if rule not in STREAMLITS_OWN} == {}


@pytest.mark.slow
def test_tables_are_saved_by_us_alone(page, address: str) -> None:
    """Streamlit's own download would write cells that a spreadsheet computes; what we write begins with `'`."""
    tables = 0
    for name in [name for name in PLACES if name not in SAME]:
        page.goto(address + PLACES[name])
        settled(page)
        found = page.get_by_test_id("stDataFrame")
        read_only = 0
        for i in range(found.count()):
            found.nth(i).scroll_into_view_if_needed()
            found.nth(i).hover(position={"x": 20, "y": 50})
            assert page.get_by_role("button", name=re.compile("^Download as CSV")).count() == 0, name
            read_only += page.get_by_role("button", name=re.compile("^Search")).count() > 0
        tables += read_only
        if read_only and name not in ("sweep", "yaml"):  # whose tables are a form, and the rows of its file
            ours = page.get_by_test_id("stDownloadButton").get_by_role("button")
            assert ours.filter(has_text="CSV").count() >= read_only, name
            assert ours.filter(has_text="Markdown").count() >= read_only, name
    assert tables > 8
    page.goto(address + PLACES["notes"])
    settled(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV", exact=True).click()
    assert HOSTILE[:20] in Path(download.value.path()).read_text("utf-8")


@pytest.mark.slow
def test_a_run_of_the_journey_is_opened_with_keys(page, address: str) -> None:
    page.goto(address)
    settled(page)
    field = page.get_by_role("combobox", name="Chosen runs")
    links = 0
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('[data-testid=stSidebarNavLink]')"):
            links += 1
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "it is seen"
        if field.evaluate("it => it === document.activeElement"):
            break
    assert links == len(PAGES)
    box = field.locator("xpath=ancestor::*[@data-testid='stMultiSelect']")
    focused = box.screenshot()
    for _ in range(2):
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        settled(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Compare 2 runs").wait_for(timeout=MILLISECONDS)
    assert "picked=" in page.url
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Compare 2 runs":
            break
    outline = "getComputedStyle(document.activeElement)"
    assert page.evaluate(f"{outline}.boxShadow") != "none" or page.evaluate(f"{outline}.outlineStyle") != "none"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Compare", exact=True).wait_for(timeout=MILLISECONDS)
    assert page.url.count("%2C") == 1 and focused


def choose_row(page, row: int) -> None:
    """A table is a canvas: its box is clicked where it is drawn."""
    page.locator("[data-testid=stDataFrame]").first.scroll_into_view_if_needed()
    box = page.locator("[data-testid=stDataFrame]").first.bounding_box()
    page.mouse.click(box["x"] + 16, box["y"] + 35 * row + 17)
    page.wait_for_timeout(300)
    settled(page)


@pytest.mark.slow
def test_ways_through_the_app(page, address: str) -> None:
    """By keyboard where a way has one: from the journey to a run, a case, its outputs, and back."""
    page.goto(address)
    settled(page)
    page.get_by_role("link", name="Runs").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Runs", exact=True).wait_for(timeout=MILLISECONDS)
    settled(page)
    for row in (1, 2):
        choose_row(page, row)
    page.get_by_role("button", name="Compare 2 runs").click()
    page.get_by_role("heading", name="Compare", exact=True).wait_for(timeout=MILLISECONDS)
    settled(page)
    assert page.url.count("%2C") == 1 and "/compare?runs=" in page.url
    page.get_by_role("radio", name="Cases").or_(page.get_by_role("button", name="Cases", exact=True)).first.click()
    page.wait_for_url("**view=cases**", timeout=MILLISECONDS)
    settled(page)
    choose_row(page, 2)
    page.wait_for_url("**view=outputs**", timeout=MILLISECONDS)
    settled(page)
    assert "case=long" in page.url and "characters shown" in page.inner_text("[data-testid=stMain]")
    page.reload()
    settled(page)
    assert "characters shown" in page.inner_text("[data-testid=stMain]"), "the address says all"


@pytest.mark.slow
def test_a_point_of_the_journey_opens_its_run(page, address: str) -> None:
    page.goto(address)
    settled(page)
    points = page.locator("[data-testid=stVegaLiteChart] path[aria-roledescription=point]")
    points.first.click(force=True)
    page.get_by_role("button", name="Open the run").click(timeout=MILLISECONDS)
    page.get_by_role("heading", name="Compare", exact=True).wait_for(timeout=MILLISECONDS)
    assert "/compare?runs=" in page.url


@pytest.mark.slow
def test_another_address_shows_nothing_without_its_token(browser, project: Path) -> None:
    with served(project, "--host", "0.0.0.0") as (address, server):
        assert server.stdout is not None
        token = server.stdout.readline().partition("token=")[2].strip()
        assert token
        page = browser.new_page()
        page.goto(f"{address}/compare")
        settled(page)
        assert page.get_by_label("Token").count() and page.get_by_role("heading").count() == 0
        assert "greet" not in page.content() and "Runs" not in page.inner_text("[data-testid=stApp]")
        page.goto(f"{address}/?token={token}")
        page.get_by_role("heading", name="Journey").wait_for(timeout=MILLISECONDS)
        assert "token=" not in page.url
        page.close()
