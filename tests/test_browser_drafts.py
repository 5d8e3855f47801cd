"""In a real browser: what is typed is kept while one types, names are whole, edit tables are saved."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from doubles.browser import chromium, served, settled

from workbench.api import run_suite
from workbench.define.drafts import DraftKind, kept_draft
from workbench.define.project import Project, load_project
from workbench.store.database import Database
from workbench.store.notes import list_notes

pytestmark = pytest.mark.slow
MILLISECONDS = 90_000
LONG = "customer-support/billing-and-refunds/answers-to-a-complaint-with-its-history-{}-in-a-warm-and-professional-tone"
"""Longer than any place for it."""
NAMES = [LONG.format(number) for number in range(3)]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    for number, name in enumerate(NAMES):
        write(root / f"prompts/{name}.prompty", f"user:\nHello {number} {{{{ who }}}}")
    write(root / "workbench.yaml", "models: {house: {engine: echo}}\n")
    suite = {"prompts": NAMES, "models": ["house"], "params": {"temperature": [0, 1], "max_tokens": 9}}
    suite |= {"cases": [{"id": "a", "who": "Eva"}], "scorers": ["length"]}
    suite |= {"gates": [{"scorer": "length", "at_most": 99}]}
    write(root / "evals/greet.yaml", json.dumps(suite))
    write(root / "evals/other.yaml", json.dumps(suite))
    write(root / "evals/third.yaml", json.dumps(suite))
    project = load_project(root)
    run_suite("greet", root)
    return project


@pytest.fixture(scope="module")
def address(project: Project) -> Iterator[str]:
    with served(project.root) as (found, _):
        yield found


@pytest.fixture
def page(browser):
    found = browser.new_page(viewport={"width": 1280, "height": 1000})
    found.set_default_timeout(MILLISECONDS)
    yield found
    found.close()


def wait_for(page, what: Callable[[], object]) -> None:
    for _ in range(MILLISECONDS // 100):
        if what():
            return
        page.wait_for_timeout(100)
    raise AssertionError("what was waited for did not come")


def kept(project: Project, kind: DraftKind, name: str) -> str:
    found = kept_draft(project, kind, name)
    return found.text if found else ""


def place_on(page, address: str, place: str):
    """The text area that is typed in, there."""
    page.goto(address + place)
    settled(page)
    if place.startswith("/playground"):
        page.get_by_test_id("stExpander").first.locator("summary").click()
        return page.get_by_test_id("stExpander").first.locator("textarea")
    return page.locator("[data-testid=stMain] textarea").first


@pytest.mark.parametrize(
    ("place", "kind", "name"),
    [
        (f"/prompts?prompt={NAMES[0]}", "prompt", NAMES[0]),
        (f"/playground?prompts={NAMES[1]}&models=house", "prompt", NAMES[1]),
        ("/sweep?suite=other&edit=yaml", "suite", "other"),
    ],
)
def test_what_is_typed_is_kept_while_one_types(
    page, address: str, project: Project, place: str, kind: DraftKind, name: str
) -> None:
    """The field is never left: no key but letters is pressed, and letters go on coming while the page is drawn anew."""
    area = place_on(page, address, place)
    area.click()
    page.keyboard.press("Control+End")
    before = area.input_value()
    page.keyboard.type("# one")
    page.get_by_text("kept as a draft").wait_for()
    for word in (" two", " three", " four"):
        page.keyboard.type(word)
        wait_for(page, lambda word=word: kept(project, kind, name).endswith(word))
        for letter in "and so on":
            page.keyboard.type(letter)  # the answer to what was sent comes meanwhile
    wait_for(page, lambda: kept(project, kind, name).endswith("and so on"))
    settled(page)
    text = before + "# one twoand so on threeand so on fourand so on"
    assert area.evaluate("it => it === document.activeElement"), "it is still being typed in"
    assert area.input_value() == text == kept(project, kind, name)
    page.reload()
    settled(page)
    page.get_by_text("was restored").wait_for()
    assert page.locator("[data-testid=stMain] textarea").first.input_value() == text


@pytest.mark.parametrize(
    ("place", "kind", "name"),
    [(f"/prompts?prompt={NAMES[2]}", "prompt", NAMES[2]), ("/sweep?suite=greet&edit=yaml", "suite", "greet")],
)
def test_what_is_typed_before_a_tap_on_a_link_is_kept(
    browser, address: str, project: Project, place: str, kind: DraftKind, name: str
) -> None:
    """And the tap leads where it should: what the field sends does not bring its page back."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, has_touch=True)
    page = context.new_page()
    page.set_default_timeout(MILLISECONDS)
    area = place_on(page, address, place)
    area.click()
    page.keyboard.press("Control+End")
    page.keyboard.type("# last word")
    box = page.get_by_role("link", name="Runs", exact=True).bounding_box()
    finger = context.new_cdp_session(page)
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
    page.wait_for_timeout(150)  # as long as a finger stays
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.get_by_role("heading", name="Runs", exact=True).wait_for()
    settled(page)
    assert page.get_by_role("heading", name="Runs", exact=True).count() and "/runs" in page.url
    wait_for(page, lambda: kept(project, kind, name).endswith("# last word"))
    context.close()


def test_a_window_lets_go_by_itself_of_what_another_has_saved(browser, page, address: str, project: Project) -> None:
    other = browser.new_page(viewport={"width": 1280, "height": 1000})
    other.set_default_timeout(MILLISECONDS)
    place_on(page, address, "/sweep?suite=third&edit=yaml").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("# third")
    page.get_by_text("kept as a draft").wait_for()
    place_on(other, address, "/sweep?suite=third&edit=yaml")
    other.get_by_text("was restored").wait_for()
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("is saved").wait_for()
    other.get_by_text("was restored").wait_for(state="detached")
    settled(other)
    assert not other.get_by_test_id("stAlert").count()
    assert other.get_by_role("button", name="Start", exact=True).is_enabled(), "with nothing to save"
    other.close()


def test_the_name_of_a_new_suite_is_kept_while_one_types(page, address: str, project: Project) -> None:
    page.goto(f"{address}/sweep?suite=*")
    settled(page)
    page.get_by_label("Name of the new suite").press_sequentially("mine")
    wait_for(page, lambda: (found := kept_draft(project, "suite", "*")) and found.title == "mine")


def test_a_note_is_not_sent_while_one_types(page, address: str, project: Project) -> None:
    """It stands in a form, which is sent by its button alone."""
    page.clock.install()
    page.goto(f"{address}/compare?view=notes")
    settled(page)
    page.get_by_label("Note on this run").press_sequentially("first")
    page.clock.run_for(5_000)
    page.get_by_label("Note on this run").press_sequentially(" and last")
    page.clock.resume()
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_role("button", name="Delete", exact=True).first.wait_for()
    with closing(Database.open(project.store_url)) as database, database.read() as connection:
        run = page.url.partition("runs=")[2].partition("&")[0]
        assert [note.text for note in list_notes(connection, [run])] == ["first and last"]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    "place", ["/sweep?suite=greet", "/playground?prompts=" + ",".join(NAMES), "/compare?view=parallel"]
)
def test_chosen_names_are_whole(page, address: str, place: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(address + place)
    settled(page)
    tags = page.locator("[data-testid=stMultiSelect] [data-tag]")
    tags.first.wait_for()
    cut = tags.evaluate_all(
        """all => all.filter(tag => {
            const text = tag.firstElementChild, own = tag.getBoundingClientRect()
            const place = tag.closest('[data-testid=stMultiSelect]').getBoundingClientRect()
            return text.scrollWidth > text.clientWidth + 1 || text.scrollHeight > text.clientHeight + 1
                || own.left < place.left || own.right > place.right || own.bottom > place.bottom
        }).map(tag => tag.innerText)"""
    )
    assert cut == [] and tags.count() > 2


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ("Parameters", [["parameter", "values"], ["temperature", "0, 1"], ["max_tokens", "9"]]),
        ("Gates", [["about", "rule", "bound", "more"], ["length", "at_most", "99", ""]]),
    ],
)
def test_an_edit_table_is_saved(page, address: str, table: str, rows: list[list[str]]) -> None:
    page.goto(f"{address}/sweep?suite=greet")
    settled(page)
    with page.expect_download() as download:
        page.get_by_role("button", name=f"{table} as CSV", exact=True).click()
    assert list(csv.reader(io.StringIO(Path(download.value.path()).read_text("utf-8")))) == rows
    page.get_by_role("button", name=f"{table} as Markdown", exact=True).wait_for()
