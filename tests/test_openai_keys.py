"""A key comes from the environment, is sent to its one address, and stands nowhere else."""

from __future__ import annotations

import json
import logging
import shutil
import ssl
import subprocess
import threading
import traceback
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from doubles.asking import ask, pieces, user

from workbench.cli import main
from workbench.engines.openai import OpenAIEngine
from workbench.engines.openai.keys import Key
from workbench.errors import EngineError, ModelError
from workbench.loopback import Fault, Script, serve
from workbench.records import Model

KEY = "sk-very-secret-1234567890"
ANSWER = json.dumps({"choices": [{"message": {"content": f"you sent {KEY}"}, "finish_reason": "stop"}]})
ERROR = json.dumps({"error": {"message": f"Bad request, headers: Bearer {KEY}"}})

ESCAPED = "".join(f"\\u{ord(letter):04x}" for letter in KEY)


@pytest.mark.parametrize(
    ("raw", "hidden"),
    [
        (rb'"a/b+c"', b'"[key]"'),
        (rb'"a\/b+c"', b'"[key]"'),
        (rb'"\u0061\u002Fb\u002bc"', b'"[key]"'),
        (rb'"\\u0061/b+c"', rb'"\\u0061/b+c"'),  # a backslash, then u0061
        (rb'"\u00e9 \u0022 \/ \u005c"', rb'"\u00e9 \u0022 \/ \u005c"'),
        (rb'"\u00e9 \u0022 a\/b+c \u005c"', rb'"\u00e9 \u0022 [key] \u005c"'),
    ],
)
def test_a_key_is_hidden_however_json_writes_it(raw: bytes, hidden: bytes) -> None:
    assert Key("a/b+c", "K").hide_bytes(raw) == hidden


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_KEY", KEY)


def engine(url: str, **settings: object) -> OpenAIEngine:
    chosen = {"model": "m", "base_url": url, "api_key_env": "HOUSE_KEY", **settings}
    return OpenAIEngine(Model("house", "openai", chosen, limits={"retries": 0}))


@pytest.mark.parametrize(
    ("faults", "key", "code"),
    [
        pytest.param((), None, 0, id="answered"),
        pytest.param((Fault("body", body=ANSWER),), None, 0, id="answered with the key"),
        pytest.param((Fault("body", body=ANSWER.replace(KEY, ESCAPED)),), None, 0, id="answered with the key, escaped"),
        pytest.param((Fault(status=400, code=KEY),), None, 3, id="refused with the key"),
        pytest.param((Fault("body", status=400, body=ERROR),), None, 3, id="an error with the key"),
        pytest.param((Fault(status=500, code=KEY),), None, 3, id="tried again, with the key"),
        pytest.param((Fault("not_json"),), None, 3, id="no answer"),
        pytest.param((), "another", 3, id="stopped with the key"),
        pytest.param((Fault("redirect", location=f"http://localhost:9/{KEY}"),), None, 3, id="sent elsewhere"),
    ],
)
def test_a_run_never_shows_its_key(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, faults, key, code
) -> None:
    """The whole store, the reports, what is printed and what is logged."""
    caplog.set_level(logging.DEBUG)
    with serve(Script(faults=faults, key=key)) as server:
        write_project(tmp_path, server.url)
        ended = main(["--project", str(tmp_path), "run", "evals/s.yaml"])
        reported = [
            main(
                [
                    "--project",
                    str(tmp_path),
                    "report",
                    "latest",
                    "--to",
                    form,
                    "--out",
                    str(tmp_path / f"report.{form}"),
                ]
            )
            for form in ("html", "md", "json", "csv")
        ]
        main(["--project", str(tmp_path), "show", "latest", "--failures"])
        sent = [call.headers.get("authorization") for call in server.books.log]
    assert sent and set(sent) == {f"Bearer {KEY}"}
    assert ended == code and reported == [0] * 4
    printed = capfd.readouterr()
    assert KEY not in printed.out + printed.err + caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files) and any(path.suffix == ".html" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def write_project(root: Path, url: str) -> None:
    model = f"{{engine: openai, model: m, base_url: '{url}', api_key_env: HOUSE_KEY, limits: {{retries: 1}}}}"
    files = {
        "workbench.yaml": f"models:\n  house: {model}\n",
        "prompts/hello.prompty": "user:\nHello {{ who }}",
        "evals/s.yaml": "name: s\nprompts: [hello]\nmodels: [house]\nparams: {temperature: 0}\nscorers: [contains]\n"
        "cases:\n  - {id: a, who: Ann, expected: Ann}\n  - {id: b, who: Ben, expected: Ben}\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_a_traceback_holds_no_key() -> None:
    with serve(Script(key="another")) as server, pytest.raises(EngineError) as caught:
        ask(engine(server.url), user("a"))
    told = "".join(traceback.format_exception(caught.value))
    assert KEY not in told and "HOUSE_KEY" in told
    assert KEY not in repr(engine("http://127.0.0.1:9")._plan)


def test_a_stream_shows_no_key() -> None:
    with serve(Script(answers={"say": KEY})) as server:
        words, output = pieces(engine(server.url), user("say", stream=True))
    assert KEY not in "".join(words) + output.text and "[key]" in output.text


def test_a_redirect_takes_no_key_elsewhere() -> None:
    with serve() as other, serve() as server:
        server.use(faults=(Fault("redirect", location=other.url),))
        with pytest.raises(EngineError, match=f"redirects to {other.url}"):
            ask(engine(server.url), user("a"))
        assert not other.books.log


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({}, None),
        ({"api_key_env": "HOUSE_KEY"}, f"Bearer {KEY}"),
        ({"api_key_env": "OPENAI_API_KEY"}, "Bearer official"),
    ],
)
def test_the_key_of_openai_goes_to_no_other_address_unless_named(
    settings: dict[str, str], sent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "official")
    with serve() as server:
        ask(OpenAIEngine(Model("house", "openai", {"model": "m", "base_url": server.url, **settings})), user("a"))
        assert [call.headers.get("authorization") for call in server.books.log] == [sent]


def test_certificates_are_verified(tmp_path: Path) -> None:
    """A server with a certificate of its own making is not believed."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    made = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", *made]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with pytest.raises(EngineError, match="certificate can't be verified"):
            ask(engine(f"https://localhost:{server.server_port}/v1"), user("a"))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"a {KEY}\nb", "a [key] b"),
        ("x" * 500, "x" * 400 + "…"),
        ("half \ud800", "half ?"),
    ],
)
def test_lines_are_clean(text: str, line: str) -> None:
    assert Key(KEY, "HOUSE_KEY").line(text) == line


def test_a_key_in_the_file_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        OpenAIEngine(Model("a", "openai", {"model": "m", "base_url": f"http://user:{KEY}@127.0.0.1:1/v1"}))
    assert KEY not in str(caught.value)
