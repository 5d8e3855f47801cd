"""Every test has a home, caches and environment of its own, and no network but the loopback interface."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # how long an example takes decides no test
settings.load_profile("any machine")

KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "WORKBENCH_SHARED", "WORKBENCH_TEST_CACHE", "CI")


@pytest.fixture(scope="session", autouse=True)
def _session_home(tmp_path_factory: pytest.TempPathFactory):
    """One cache for the whole session: re-quantised models are made once."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("home")
    for name in set(os.environ) - set(KEPT):
        if not name.startswith(("PYTEST_", "COV_", "OPENBLAS_")):
            patch.delenv(name)
    patch.setenv("HOME", str(home))
    patch.setenv("XDG_CACHE_HOME", os.environ.get("WORKBENCH_TEST_CACHE", str(home / "cache")))
    patch.setenv("HF_HOME", str(home / "hf"))
    patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    patch.setenv("NO_COLOR", "1")
    patch.setenv("COLUMNS", "120")
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch):
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def checked(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address[0]}")

    def guarded(self, address):
        checked(self, address)
        return connect(self, address)

    def guarded_ex(self, address):
        checked(self, address)
        return connect_ex(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)


@pytest.fixture
def shared() -> Path:
    """The folder of shared data; the test is skipped where it is absent."""
    place = Path(os.environ.get("WORKBENCH_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (place / "data").is_dir():
        pytest.skip(f"the shared data folder {place}/data is absent; set WORKBENCH_SHARED to run this test")
    return place / "data"


@pytest.fixture(scope="module")
def safe_settings() -> Iterator[None]:
    """Streamlit's settings as `workbench ui` passes them, as far as screens look at them."""
    from streamlit import config

    given = {"server.address": "127.0.0.1", "browser.gatherUsageStats": False, "client.disableDataExport": True}
    before = {name: config.get_option(name) for name in given}
    for name, value in given.items():
        config.set_option(name, value)
    yield
    for name, value in before.items():
        config.set_option(name, value)
