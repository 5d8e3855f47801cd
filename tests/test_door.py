"""The door of an app that other machines can reach, and Streamlit started by hand: as safe as by `workbench ui`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from doubles.browser import chromium, free_port, served
from hypothesis import given
from hypothesis import strategies as st

from workbench.cli.ui import SAFE
from workbench.views.screens import door

ROOT = Path(__file__).resolve().parents[1]
MILLISECONDS = 90_000
TOKEN = "the-token"
FORM = "application/x-www-form-urlencoded"
NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(door.TOKEN, TOKEN)
    monkeypatch.setattr(door, "at_work", False)


# The cookie


@pytest.mark.parametrize(
    ("after", "good"), [(0, True), (door.COOKIE_SECONDS - 1, True), (door.COOKIE_SECONDS, False), (1e9, False)]
)
def test_a_cookie_ends(after: float, good: bool) -> None:
    value = door.sealed_cookie(NOW)
    assert door.good_cookie(value, NOW + after) is good
    assert TOKEN not in value


@given(st.text() | st.from_regex(r"[0-9]{1,11}\.[0-9a-f]{64}", fullmatch=True))
def test_a_made_up_cookie_is_not_good(value: str) -> None:
    assert not door.good_cookie(value, NOW)


def test_a_cookie_is_good_for_its_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    value = door.sealed_cookie(NOW)
    ends, _, seal = value.partition(".")
    assert not door.good_cookie(f"{int(ends) + 1}.{seal}", NOW), "the end can't be moved"
    monkeypatch.setattr(door, "_secret", b"of another process")
    assert not door.good_cookie(value, NOW)


# The door


def ask(method: str, path: str, query: str = "", body: str = "", kind: str = FORM) -> tuple[int, dict[str, str]]:
    """One request to the door; what it lets through is answered with 200."""
    sent: list[dict] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": body.encode(), "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    async def inside(scope: dict, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "scheme": "http"}
    headers = [(b"content-type", kind.encode())] if body else []
    asyncio.run(door.TokenToCookie(inside)({**scope, "headers": headers}, receive, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "place", "let_in"),
    [
        ("GET", "/", f"token={TOKEN}", "", "/", True),
        ("GET", "/compare", f"runs=a%2Cb&token={TOKEN}&view=", "", "/compare?runs=a%2Cb&view=", True),
        ("GET", "/", "token=another", "", "/?token=wrong", False),
        ("GET", "/", "token=", "", "/?token=wrong", False),
        ("GET", "/", "token=%ff%00", "", "/?token=wrong", False),
        ("GET", "//evil.example/x", f"token={TOKEN}", "", "/evil.example/x", True),
        ("GET", "/\\evil.example", f"token={TOKEN}", "", "/%5Cevil.example", True),
        ("GET", "/a\r\nSet-Cookie: x", f"token={TOKEN}", "", "/a%0D%0ASet-Cookie%3A%20x", True),
        ("POST", "/runs", "page=2", f"token={TOKEN}", "/runs?page=2", True),
        ("POST", "/runs", "page=2", "token=another", "/runs?page=2&token=wrong", False),
        ("POST", "/", "", f"token={TOKEN}&x=" + "x" * 5000, "/?token=wrong", False),
        ("POST", "/", "", "nothing", "/?token=wrong", False),
        ("GET", "/", "token=wrong", "", None, False),
        ("GET", "/", "runs=a", "", None, False),
        ("HEAD", "/", f"token={TOKEN}", "", None, False),
        ("PUT", "/_stcore/upload_file/a", "", f"token={TOKEN}", None, False),
    ],
)
def test_who_gives_the_token_gets_a_cookie(
    method: str, path: str, query: str, body: str, place: str | None, let_in: bool
) -> None:
    status, headers = ask(method, path, query, body)
    assert headers.get("location") == place and status == (303 if place else 200)
    cookies = SimpleCookie(headers.get("set-cookie", ""))
    assert len(cookies) == let_in
    for name, cookie in cookies.items():
        assert name == door.cookie_name() and door.good_cookie(cookie.value, NOW - 1e9)
        assert cookie["httponly"] and cookie["samesite"] == "strict" and cookie["path"] == "/" and cookie["max-age"]
    assert TOKEN not in json.dumps(headers)


def test_without_a_token_nobody_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(door.TOKEN)
    assert "set-cookie" not in ask("GET", "/", "token=")[1]
    assert ask("POST", "/", "", f"token={TOKEN}", "text/plain")[0] == 200


@pytest.mark.slow
def test_a_reload_does_not_ask_again(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    with chromium() as browser, served(tmp_path, "--host", "0.0.0.0") as (address, server):
        token = server.stdout.readline().partition("token=")[2].strip()
        by_address, by_hand, stranger = (browser.new_context() for _ in range(3))
        page = by_address.new_page()
        page.set_default_timeout(MILLISECONDS)
        page.goto(f"{address}/runs?token={token}&page=1")
        page.get_by_role("heading", name="Runs").wait_for()
        assert page.url == f"{address}/runs?page=1"
        page.reload()
        page.get_by_role("heading", name="Runs").wait_for()
        assert page.get_by_label("Token").count() == 0
        (cookie,) = [c for c in by_address.cookies() if c["name"].startswith("workbench_")]
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and token not in cookie["value"]
        assert "workbench_" not in page.evaluate("document.cookie")

        page = by_hand.new_page()
        page.set_default_timeout(MILLISECONDS)
        page.goto(f"{address}/runs?page=1")
        page.get_by_label("Token").fill("another")
        page.keyboard.press("Enter")
        page.get_by_text("That is not the token").wait_for()
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Open").click()
        page.get_by_role("heading", name="Runs").wait_for()
        assert page.url == f"{address}/runs?page=1"
        page.reload()
        page.get_by_role("heading", name="Runs").wait_for()

        stranger.add_cookies([{**cookie, "value": cookie["value"][:-1] + "x"}])
        page = stranger.new_page()
        page.goto(f"{address}/runs")
        page.get_by_label("Token").wait_for(timeout=MILLISECONDS)
        assert page.get_by_role("heading").count() == 0


# Streamlit started by hand


def flat(table: dict, above: str = "") -> dict[str, str]:
    """`{"server": {"address": x}}` → `{"server.address": "x"}`, with values as they stand in options."""
    found = {}
    for name, value in table.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}


def test_by_hand_it_has_the_same_settings() -> None:
    """But for the watcher, by which a screen is loaded anew while one works on it."""
    by_hand = flat(tomllib.loads((ROOT / ".streamlit/config.toml").read_text("utf-8")))
    assert by_hand == {name: value for name, value in SAFE.items() if name != "server.fileWatcherType"}


SHOW = """
import json, sys
from streamlit.web import bootstrap
from streamlit import config
config._main_script_path = sys.argv[1]
bootstrap.load_config_options({})
print(json.dumps({name: config.get_option(name) for name in json.loads(sys.argv[2])}))
"""


@pytest.mark.parametrize("folder", [ROOT, ROOT / "tests"])
def test_streamlit_honours_them(folder: Path, tmp_path: Path) -> None:
    """Beside the script that is run, from whatever folder."""
    wanted = {"browser.gatherUsageStats": False, "server.enableXsrfProtection": True, "server.address": "127.0.0.1"}
    command = [sys.executable, "-c", SHOW, str(ROOT / "streamlit_app.py"), json.dumps(list(wanted))]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == wanted


@pytest.mark.slow
def test_started_by_hand_it_shows_the_app_on_this_machine_only(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", f"--server.port={port}"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "WORKBENCH_PROJECT": str(tmp_path)}
    server = subprocess.Popen(
        [*command, "--server.headless=true"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        with chromium() as browser:
            page = browser.new_page()
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2).close()
                    break
                except OSError:
                    page.wait_for_timeout(100)
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_role("heading", name="Journey").wait_for(timeout=MILLISECONDS)
            page.wait_for_timeout(1000)
            assert [url for url in asked if not url.startswith((f"http://127.0.0.1:{port}/", "data:", "blob:"))] == []
    finally:
        server.terminate()
        server.communicate(timeout=30)
