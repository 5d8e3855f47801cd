"""The app: its one screen's logic, its server started for real, and a wheel that holds all it needs."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from workbench.cli import main
from workbench.cli.ui import SAFE
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.evaluate import run_suite
from workbench.prepare import prepare_suite
from workbench.registry import SCORERS
from workbench.store.database import Database
from workbench.store.database import runs as runs_table
from workbench.views.screens.page import literal
from workbench.views.screens.runs import MOST_OUTPUTS, OUTPUT_CHARS

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "<script>alert(1)</script> ![x](http://evil.example/x.png) \x1b[31m \u202egpj :red[x] $y$ `z`"
SUITE = """
name: greet
prompts: [hello, bye]
models: [house]
params: {temperature: [0, 1], max_tokens: 20}
repeats: 2
cases:
  - {id: a, who: Ann, expected: Ann}
  - {id: b, who: Ben, expected: Ben}
  - {id: c, who: Cat, expected: "no"}
scorers: [contains, length]
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def echo(options: str) -> str:
    """A workbench.yaml."""
    return f"models: {{house: {{engine: echo, options: {{{options}}}}}}}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path / "prompts/hello.prompty", "user:\nHello {{ who }}")
    write(tmp_path / "prompts/bye.prompty", "user:\nGoodbye then, {{ who }}")
    write(tmp_path / "evals/greet.yaml", SUITE)
    write(tmp_path / "workbench.yaml", echo(""))
    monkeypatch.setenv("WORKBENCH_PROJECT", str(tmp_path))
    return tmp_path


def ask(root: Path) -> str:
    """Runs the suite; returns the run's id."""
    project = load_project(root)
    suite = load_suite("greet", project, Library(project.library_root), SCORERS.names())
    progress, _ = run_suite(prepare_suite(suite, root), Database.open(project.store_url))
    return progress.run


def page(**address: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=20)
    for name, value in address.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def address_of(app: AppTest, name: str) -> str | None:
    value = app.query_params.get(name)
    return value[0] if isinstance(value, list) else value  # which of them depends on Streamlit's version


def texts(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.text, *app.code])


def markdown(app: AppTest) -> list[str]:
    """Everything that the page has for Markdown to read."""
    return [
        e.value for e in [*app.markdown, *app.title, *app.subheader, *app.caption, *app.info, *app.warning, *app.error]
    ]


def test_an_empty_store_says_how_to_start(project: Path) -> None:
    app = page()
    assert "workbench run" in app.info[0].value
    assert not app.selectbox and not app.error


@pytest.mark.parametrize(
    ("yaml", "store", "line"),
    [
        ("models: {house: {engin: echo}}\n", None, "workbench.yaml:1"),
        ("models: [\n", None, "workbench.yaml"),
        ("store: nosuch://x\n", None, "can't be used"),
        (None, "sqlite:////proc/none/x.db", "can't be used"),
        (None, f"sqlite:///{ROOT / 'pyproject.toml'}", "is no SQLite file"),
    ],
)
def test_what_cannot_be_opened_is_one_line(
    project: Path, monkeypatch, yaml: str | None, store: str | None, line: str
) -> None:
    if yaml:
        write(project / "workbench.yaml", yaml)
    if store:
        monkeypatch.setenv("WORKBENCH_STORE", store)
    app = page()
    assert len(app.error) == 1 and line in app.error[0].value and "\n" not in app.error[0].value
    assert not app.selectbox


def test_a_run_is_shown(project: Path) -> None:
    run = ask(project)
    app = page()
    assert address_of(app, "run") == run, "the address names what is shown"
    assert [box.label for box in app.selectbox] == ["Run", "Scorer"]
    shown = texts(app)
    assert "24 of 24 trials answered" in shown and "On contains, " in shown
    table = app.dataframe[0].value
    assert list(table["cases"]) == [3] * 4 and "(reference)" in table["variant"][0] and table["verdict"][1]
    assert "Hello Ann" in shown and "Ben" not in shown, "one case at a time"
    assert len(app.code) == 1 + 8, "the inputs and the outputs of one case"
    assert "vega_lite_chart" in str(app.main) or app.get("vega_lite_chart") or app.get("arrow_vega_lite_chart")


def test_choices_are_kept_in_the_address(project: Path) -> None:
    older, newer = ask(project), ask(project)
    app = page(run=older, scorer="length", case="b")
    assert app.selectbox[0].value == older and app.selectbox[1].value == "length"
    assert "On length, " in texts(app) and "Hello Ben" in texts(app)
    app.number_input[0].set_value(3).run()
    assert address_of(app, "case") == "c" and "Hello Cat" in texts(app)
    app.selectbox[0].select(newer).run()
    app.selectbox[1].select("contains").run()
    assert (address_of(app, "run"), address_of(app, "scorer")) == (newer, "contains")
    assert "Hello Cat" in texts(app), "the case stays when the run changes"
    app.query_params["run"] = older  # the browser's way back
    app.run()
    assert app.selectbox[0].value == older


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ({"run": "latest"}, False),
        ({"run": "20"}, False),  # the beginning of an id
        ({"run": "![x](http://evil.example/x.png)"}, True),
        ({"scorer": "none", "case": "none", "page": "-1"}, False),
        ({"page": "²"}, False),
        ({"page": "99"}, False),
    ],
)
def test_an_address_that_names_nothing_does_no_harm(project: Path, address: dict[str, str], warned: bool) -> None:
    run = ask(project)
    app = page(**address)
    assert app.selectbox[0].value == run and not app.error
    assert bool(app.warning) == warned
    assert all(value == literal(value.strip("` ")) for value in (e.value for e in app.warning))


def test_foreign_text_stays_text(project: Path) -> None:
    answer = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e").replace('"', '\\"')
    write(project / "workbench.yaml", echo(f'answers: {{".": "{answer}"}}'))
    write(project / "evals/greet.yaml", SUITE.replace("id: a", 'id: "<b>![x](http://evil.example/y)"'))
    ask(project)
    app = page()
    assert "<script>" in texts(app) and "␛[31m" in texts(app) and "⟨U+202E⟩gpj" in texts(app)
    assert "\x1b" not in texts(app) and "\u202e" not in texts(app)
    assert "<b>![x](http://evil.example/y)" in texts(app)
    assert not [value for value in markdown(app) if "evil" in value or "<" in value]


@pytest.mark.parametrize("text", ["plain", "`a` ``b``", "```", "a\nb", "![x](http://evil.example)", "\x1b\u202e", ""])
def test_a_code_span_holds_foreign_text(text: str) -> None:
    found = re.fullmatch(r"(`+) (.*) \1", literal(text))
    assert found and found[1] not in re.findall("`+", text) and "\n" not in found[2] and "\x1b" not in found[2]


def test_a_failed_trial_and_an_empty_answer(project: Path) -> None:
    write(
        project / "workbench.yaml", echo('fail: {Hello: {kind: refused, message: no *room* left}}, answers: {".": ""}')
    )
    ask(project)
    app = page()
    assert "failed (" in texts(app) and "no *room* left" in texts(app) and "an empty answer" in texts(app)
    assert "12 failed" in texts(app)


def test_an_interrupted_run_says_so(project: Path) -> None:
    run = ask(project)
    with Database.open(load_project(project).store_url).write() as connection:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        connection.execute(runs_table.update().values(status="running", pid=dead.pid))
    app = page(run=run)
    assert "interrupted" in app.warning[0].value and "24 of 24" in app.warning[0].value
    assert app.dataframe


def test_long_and_many_outputs_are_cut_and_paged(project: Path) -> None:
    write(project / "workbench.yaml", echo(f'answers: {{".": "{"long " * 2000}"}}'))
    write(
        project / "evals/greet.yaml",
        SUITE.replace("repeats: 2", "repeats: 15").replace("max_tokens: 20", "max_tokens: 9999"),
    )
    ask(project)
    app = page()
    assert len(app.code) == 1 + MOST_OUTPUTS
    assert all(len(block.value) < OUTPUT_CHARS + 100 for block in app.code)
    assert "4,000 of 10,000 characters shown" in app.code[1].value
    assert [button.disabled for button in app.button] == [True, False]
    app.button[1].click().run()
    assert address_of(app, "page") == "2"
    assert len(app.code) == 1 + 60 - MOST_OUTPUTS
    assert [button.disabled for button in app.button] == [False, True]
    app.number_input[0].set_value(2).run()
    assert address_of(app, "page") is None and len(app.code) == 1 + MOST_OUTPUTS


def test_a_run_without_scores(project: Path) -> None:
    write(project / "evals/greet.yaml", SUITE.replace("scorers: [contains, length]", ""))
    ask(project)
    assert "Nothing is scored" in page().info[0].value


# The server, for real


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def wait_for(url: str, server: subprocess.Popen) -> str:
    for _ in range(150):
        assert server.poll() is None, "the server has ended"
        try:
            return get(url)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from what is in the checkout and unpacked as an installation would."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"  # setuptools writes beside what it builds
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_text((ROOT / name).read_text("utf-8") if (ROOT / name).exists() else "", "utf-8")
    shutil.copytree(ROOT / "workbench", source / "workbench", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-q",
        "-w",
        str(place),
        ".",
    ]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
        wheel.extractall(place / "site")
    return place / "site"


def test_the_wheel_holds_everything(installed: Path) -> None:
    package = ROOT / "workbench"
    wanted = {p.relative_to(ROOT) for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    there = {p.relative_to(installed) for p in (installed / "workbench").rglob("*") if p.is_file()}
    assert sorted(map(str, wanted - there)) == []
    names = {str(p) for p in there}
    assert {
        "workbench/views/report.html",
        "workbench/views/screens/__main__.py",
        "workbench/store/migrations/env.py",
    } <= names
    assert any("define/starter/evals" in name for name in names)


def test_the_app_starts_from_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    """In an empty home, on a terminal, with settings about that would open it to the network."""
    (tmp_path / "project/prompts").mkdir(parents=True)
    write(tmp_path / "project/random.py", "raise SystemExit('a file of the project was imported')")
    write(tmp_path / "project/.streamlit/config.toml", '[server]\naddress = "0.0.0.0"\nenableXsrfProtection = false\n')
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(installed),
        "BROWSER": "true",
    }
    (tmp_path / "home").mkdir()
    terminal, ours = pty.openpty()  # Streamlit asks for an e-mail address where it can
    command = [
        sys.executable,
        "-P",
        "-c",
        "import sys, workbench; print(workbench.__file__, flush=True)\nfrom workbench.cli import main; sys.exit(main())",
        "ui",
        "--port",
        str(port),
    ]
    with subprocess.Popen(
        command,
        env=environment,
        cwd=tmp_path / "project",
        stdin=ours,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert wait_for(f"http://127.0.0.1:{port}/_stcore/health", server) == "ok"
            assert "<title>" in get(f"http://127.0.0.1:{port}/")
            assert listening(port) == {"0100007F"}, "only on 127.0.0.1"
            assert main_line(tmp_path, port).startswith(f"workbench: port {port} is already in use; choose another")
        finally:
            server.send_signal(signal.SIGTERM)  # to the process that was started: no other is left behind
            said = server.communicate(timeout=10)[0]
    os.close(terminal)
    os.close(ours)
    assert str(installed) in said and "mail" not in said and "Traceback" not in said
    with pytest.raises(urllib.error.URLError):
        get(f"http://127.0.0.1:{port}/_stcore/health")


def listening(port: int) -> set[str]:
    """The addresses that listen on the port, as Linux writes them: 0100007F is 127.0.0.1."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}


def main_line(tmp_path: Path, port: int) -> str:
    command = [
        sys.executable,
        "-m",
        "workbench",
        "--project",
        str(tmp_path / "project"),
        "ui",
        "--port",
        str(port),
        "--headless",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("arguments", [["--port", "0"], ["--port", "70000"], ["--port", "x"]])
def test_a_wrong_port_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_safe_settings_exist() -> None:
    """An option that Streamlit has renamed would be refused at the start; a wrong value would not."""
    from streamlit import config

    assert SAFE["server.address"] == "127.0.0.1"
    assert not set(SAFE) - set(config.get_config_options())
