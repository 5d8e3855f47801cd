"""What the screens say where there are no, one or two runs, variants and cases: each number with its word."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from doubles.pages import PLACES
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from workbench.api import run_suite

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("safe_settings")
ONE_OF_MANY = re.compile(
    r"(?<![\d.,])\b1 (?:cases|variants|runs|trials|labels|comparisons|persons|votes|raters|requests|suites)\b"
    r"|\b(?:all|both|any) (?:of )?1\b|\b1 \w+ are\b|\b[02-9] (?:case|variant|run|trial|label|vote|rater|suite)\b|persons"
)


def project(root: Path, runs: int, variants: int, cases: int) -> None:
    for folder in ("prompts", "evals"):
        (root / folder).mkdir()
    prompts = [f"p{i}" for i in range(variants)]
    for i, prompt in enumerate(prompts):
        (root / f"prompts/{prompt}.prompty").write_text(f"user:\n{'Hi ' * i}{{{{ who }}}}")
    (root / "workbench.yaml").write_text("models: {house: {engine: echo}}\n")
    rows = [{"id": f"c{i}", "who": f"Ann {i}", "expected": "Ann"} for i in range(cases)]
    suite = {"prompts": prompts, "models": ["house"], "stage": "select", "cases": rows, "scorers": ["contains"]}
    (root / "evals/greet.yaml").write_text(json.dumps(suite))
    for _ in range(runs):
        run_suite("greet", root)


def says(place: str) -> str:
    address = urlsplit(place)
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=20)
    app._page_hash = calc_hash(address.path.strip("/"))
    for name, value in parse_qsl(address.query):
        app.query_params[name] = value
    app.run()
    assert not app.exception
    kinds = ("caption", "text", "info", "warning", "error", "success", "markdown")
    lines = [element.value for kind in kinds for element in app.main.get(kind)]
    return "\n".join([*lines, *(button.label for button in app.main.button)])


@pytest.mark.parametrize("wrong", ["all 1 comparison", "1 cases", "1 label are", "2 persons", "2 run", "of 1 trials"])
def test_what_is_looked_for_is_found(wrong: str) -> None:
    assert ONE_OF_MANY.search(f"They hold for {wrong} here.")


@pytest.mark.parametrize(
    "fine", ["1 case", "21 cases", "12 of 1 trial", "0 cases", "0.1 points", "1,201 runs", "1 more"]
)
def test_what_is_fine_is_not(fine: str) -> None:
    assert not ONE_OF_MANY.search(f"That is {fine} here.")


@pytest.mark.parametrize(("runs", "variants", "cases"), [(0, 1, 1), (1, 1, 1), (1, 2, 1), (1, 2, 2), (2, 3, 2)])
def test_numbers_and_their_words_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: int, variants: int, cases: int
) -> None:
    project(tmp_path, runs, variants, cases)
    monkeypatch.setenv("WORKBENCH_PROJECT", str(tmp_path))
    wrong = {name: ONE_OF_MANY.findall(says(place)) for name, place in PLACES.items() if "megabyte" not in name}
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    ("place", "alone", "of_two", "of_three"),
    [
        ("/compare", "On contains, p0 has", "The difference is to the reference, on common", "hold for both of them"),
        ("/compare?view=price&price=tokens", "", "On the front: ", "On the front: "),
        ("/runs", "1 run. Choose its row", "1 run. Choose its row", "1 run. Choose its row"),
        ("/prompts?view=manage", "Change it by hand", "Change it by hand", "Change it by hand"),
    ],
)
def test_what_is_said_of_one_two_and_three_variants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, alone: str, of_two: str, of_three: str
) -> None:
    found = []
    for number in (1, 2, 3):
        (root := tmp_path / str(number)).mkdir()
        project(root, 1, number, 2)
        monkeypatch.setenv("WORKBENCH_PROJECT", str(root))
        found.append(says(place))
    assert [text in said for text, said in zip((alone, of_two, of_three), found, strict=True)] == [True] * 3
    assert "(reference)" not in found[0] and "ifference" not in found[0] and "front" not in found[0]
