"""LangChain's own chat models and chains as models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from doubles.asking import Row, ask, user

pytest.importorskip("langchain_core")

from workbench.cli import main
from workbench.define.project import load_project
from workbench.engines.langchain import LangChainEngine
from workbench.errors import ModelError
from workbench.models import check_model, describe_models
from workbench.records import Message, Model, Request

IMPORTS = """
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnableParallel, RunnablePassthrough
prompt = ChatPromptTemplate.from_messages([("system", "Say less."), ("placeholder", "{messages}")])
model = FakeListChatModel(responses=["Paris"])

def seen(messages):
    messages = getattr(messages, "messages", messages)
    return " | ".join(f"{m.type}: {m.content}" for m in messages)

class Telling(FakeListChatModel):
    "Answers with what it was called with."
    def _call(self, messages, stop=None, run_manager=None, **kwargs):
        return f"{seen(messages)} stop={stop} {sorted(kwargs.items())}"

telling = Telling(responses=[])
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine turns tracing off for the process: put back what it sets."""
    for name in ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("LANGCHAIN_HANDLER", "langchain")


def langchain(folder: Path, code: str, **settings: object) -> LangChainEngine:
    file = folder / "chains.py"
    file.write_text(IMPORTS + code)
    limits = settings.pop("limits", {})
    target = {"path": f"{file}:chain", **settings}
    return LangChainEngine(Model("chain", "langchain", target, {"input": 1.0, "output": 2.0}, limits))


MESSAGES = (Message.of("system", "be brief"), Message.of("user", "hello"), Message.of("assistant", "yes?"))
MESSAGES += (Message.of("user", "the capital of France"),)
SEEN = "system: be brief | human: hello | ai: yes? | human: the capital of France"


@pytest.mark.parametrize(
    ("code", "settings", "text"),
    [
        ("chain = model", {}, "Paris"),
        ("chain = telling", {}, SEEN + " stop=None []"),
        ("chain = RunnableLambda(seen)", {}, SEEN),
        ("chain = prompt | RunnableLambda(seen)", {}, "system: Say less. | " + SEEN),
        ("chain = (prompt | model).with_config(tags=['a'])", {}, "Paris"),
        ("chain = prompt | model | StrOutputParser()", {}, "Paris"),
        ("chain = RunnablePassthrough.assign(n=lambda d: len(d['messages'])) | (lambda d: str(d['n']))", {}, "4"),
        ("chain = RunnableLambda(lambda d: seen(d['messages']))", {"input": "dict"}, SEEN),
        ("def count(d: dict) -> str: return str(len(d['messages']))\nchain = RunnableLambda(count)", {}, "4"),
        (
            "chain = RunnableParallel(question=RunnablePassthrough()) | PromptTemplate.from_template('Q: {question}') "
            "| (lambda v: v.text)",
            {"input": "text"},
            "Q: the capital of France",
        ),
        ("def chain(): return prompt | model", {}, "Paris"),
        ("chain = lambda: model", {}, "Paris"),
        ("chain = model.with_retry().with_fallbacks([model])", {}, "Paris"),
    ],
)
def test_answers(tmp_path: Path, code: str, settings: dict[str, object], text: str) -> None:
    (output,) = ask(langchain(tmp_path, code, **settings), Request("r", "chain", MESSAGES))
    assert (output.failure, output.text, output.finish_reason) == (None, text, "stop")


FAKE = "chain = GenericFakeChatModel(messages=iter([AIMessage(%s)]))"


@pytest.mark.parametrize(
    ("message", "text", "finish", "tokens", "cost"),
    [
        ("'a'", "a", "stop", (None, None), None),
        (
            "'a', usage_metadata={'input_tokens': 3, 'output_tokens': 2, 'total_tokens': 5}, "
            "response_metadata={'finish_reason': 'stop'}",
            "a",
            "stop",
            (3, 2),
            7e-6,
        ),
        ("'a', response_metadata={'finish_reason': 'length'}", "a", "length", (None, None), None),
        ("'a', response_metadata={'finish_reason': 'MAX_TOKENS'}", "a", "length", (None, None), None),
        ("'a', response_metadata={'stop_reason': 'end_turn'}", "a", "stop", (None, None), None),
        ("'', response_metadata={'stop_reason': 'tool_use'}", "", "tool_calls", (None, None), None),
        ("'a', response_metadata={'finish_reason': 'content_filter'}", "a", "content_filter", (None, None), None),
        ("[{'type': 'reasoning', 'text': 'hm'}, {'type': 'text', 'text': 'a'}, 'b']", "ab", "stop", (None, None), None),
    ],
)
def test_what_a_message_tells(
    tmp_path: Path, message: str, text: str, finish: str, tokens: tuple, cost: float | None
) -> None:
    (output,) = ask(langchain(tmp_path, FAKE % message), user("q"))
    assert (output.failure, output.text, output.finish_reason) == (None, text, finish)
    assert (output.prompt_tokens, output.output_tokens) == tokens
    assert output.cost == pytest.approx(cost)


@pytest.mark.parametrize(
    ("code", "params", "text"),
    [
        ("chain = telling", {"temperature": 0.5, "stop": "x"}, "human: q stop=['x'] [('temperature', 0.5)]"),
        ("chain = telling", {"stop": ["x", "y"]}, "human: q stop=['x', 'y'] []"),
        ("chain = telling.bind(top_k=1).with_retry()", {"temperature": 1}, "human: q stop=None [('temperature', 1), ('top_k', 1)]"),
        (
            "chain = model.configurable_fields(responses=ConfigurableField(id='words'))",
            {"words": ["Lyon"]},
            "Lyon",
        ),
    ],
)  # fmt: skip
def test_parameters(tmp_path: Path, code: str, params: dict[str, object], text: str) -> None:
    engine = langchain(tmp_path, code)
    engine.check_params(params)
    (output,) = ask(engine, user("q", params=params))
    assert (output.failure, output.text) == (None, text)


def test_a_chain_refuses_parameters_that_it_would_ignore(tmp_path: Path) -> None:
    engine = langchain(tmp_path, "chain = prompt | model")
    with pytest.raises(ModelError, match=r"'temperature'; set it in the chain, .*without: \[temperature\]"):
        engine.check_params({"temperature": 0})


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("\ndef boom(m):\n    raise KeyError('label')\nchain = RunnableLambda(boom)", "error", ": KeyError: 'label'"),
        ("chain = RunnableLambda(lambda m: 3)", "bad_answer", "the chain gave 3; it has to end in a message or a text"),
        ("chain = ChatPromptTemplate.from_messages([('user', '{city}')]) | model", "error", "missing variables {'city'}"),
        ("async def slow(m): return 'a'\nchain = RunnableLambda(slow)", "error", "ainvoke"),
        ("class Tired(FakeListChatModel):\n    def _call(self, *a, **k): raise ConnectionError('away')\nchain = Tired(responses=[])", "error", "ConnectionError: away"),
    ],
)  # fmt: skip
def test_failures_are_records(tmp_path: Path, code: str, kind: str, message: str) -> None:
    (output,) = ask(langchain(tmp_path, code), user("q"))
    assert output.failure is not None
    assert output.failure.kind == kind
    assert message in output.failure.message
    assert str(tmp_path / "chains.py") in output.failure.message
    assert "\n" not in output.failure.message


def test_a_failure_names_the_line_of_the_file(tmp_path: Path) -> None:
    code = "\ndef boom(m):\n    raise KeyError('label')\nchain = prompt | boom"
    (output,) = ask(langchain(tmp_path, code), user("q"))
    line = (tmp_path / "chains.py").read_text().splitlines().index("    raise KeyError('label')") + 1
    assert output.failure is not None
    assert output.failure.message == f"{tmp_path / 'chains.py'}:{line}: KeyError: 'label'"


@pytest.mark.parametrize(
    ("code", "settings", "message"),
    [
        ("chain = (", {}, r"chains\.py:\d+: SyntaxError"),
        ("import langchain_no_such_provider", {}, r"chains\.py:\d+: ModuleNotFoundError"),
        ("chian = model", {}, "there is no 'chain' in it; did you mean 'chian'"),
        ("chain = 3", {}, r"chains\.py:chain is of type int; it has to be a LangChain Runnable"),
        ("def chain(): return 3", {}, "is of type int; it has to be a LangChain Runnable"),
        ("def chain(): raise KeyError('OPENAI_API_KEY')", {}, r"chains\.py:\d+: KeyError: 'OPENAI_API_KEY'"),
        ("def chain(city): ...", {}, "missing 1 required positional argument: 'city'"),
        ("chain = model", {"input": "texts"}, "unknown input 'texts'; did you mean 'text'"),
        ("chain = model", {"inputs": "text"}, "unknown setting 'inputs'; did you mean 'input'"),
    ],
)
def test_what_can_not_be_used(tmp_path: Path, code: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        langchain(tmp_path, code, **settings)
    assert "\n" not in str(caught.value)


def test_an_importable_object_answers() -> None:
    settings = {"object": "langchain_core.runnables.passthrough:identity", "input": "text"}
    with pytest.raises(ModelError, match="missing 1 required positional argument"):
        LangChainEngine(Model("m", "langchain", settings))
    engine = LangChainEngine(Model("m", "langchain", settings | {"object": f"{__name__}:make_shout"}))
    assert ask(engine, user("hey"))[0].text == "HEY"


def make_shout() -> object:
    from langchain_core.runnables import RunnableLambda

    return RunnableLambda(lambda text: text.upper())


def test_several_at_a_time_and_cancelled(tmp_path: Path) -> None:
    code = (
        "import threading\nmet = threading.Barrier(3)\nchain = RunnableLambda(lambda m: met.wait(10) and '' or 'met')"
    )
    engine = langchain(tmp_path, code, limits={"concurrency": 3})
    row = Row([user("q", str(i)) for i in range(7)], cancel=lambda: {"3"})
    outputs = {o.request_id: o for o in engine.generate(row)}
    assert outputs["3"].failure is not None and outputs["3"].failure.kind == "cancelled"
    assert [o.text for i, o in sorted(outputs.items()) if i != "3"] == ["met"] * 6
    assert row.largest == 3


def test_without_langchain_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    langchain(tmp_path, "chain = model")
    monkeypatch.setitem(sys.modules, "langchain_core", None)
    model = Model("m", "langchain", {"path": f"{tmp_path}/chains.py:chain"})
    with pytest.raises(ModelError, match=r"pip install 'prompt-workbench\[langchain\]'"):
        LangChainEngine(model)
    (row,) = describe_models({"m": model})
    assert "prompt-workbench[langchain]" in str(row["reason"])


class Listener(BaseHTTPRequestHandler):
    """Counts whoever calls."""

    calls: list[str]

    def do_POST(self) -> None:
        self.server.calls.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - http.server's name

    def log_message(self, *arguments: object) -> None:
        """Silent."""


ASKED = """
import sys
from workbench.engines.langchain import LangChainEngine
from workbench.records import Message, Model, Request
from doubles.asking import ask, user
if {ours}:
    ask_it = lambda: ask(LangChainEngine(Model("m", "langchain", {{"path": sys.argv[1] + ":chain"}})), user("q"))[0].text
else:
    scope = {{}}
    exec(open(sys.argv[1]).read(), scope)
    ask_it = lambda: scope["chain"].invoke({{"messages": [("user", "q")]}}).content
print(ask_it())
from langchain_core.tracers.langchain import wait_for_all_tracers
wait_for_all_tracers()
"""


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("late", [False, True])
def test_nothing_is_traced_whatever_the_environment_says(tmp_path: Path, ours: bool, late: bool) -> None:
    """The control, without our engine, does call: so the test would see it. `late`: the file itself sets the
    variable, as a .env file that overrides would."""
    server = HTTPServer(("127.0.0.1", 0), Listener)
    server.calls = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    turned_on = dict.fromkeys(("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2"), "true")
    address = f"http://127.0.0.1:{server.server_port}"
    told = {"LANGSMITH_ENDPOINT": address, "LANGCHAIN_ENDPOINT": address, "LANGSMITH_API_KEY": "key"}
    code = f"import os\nos.environ.update({turned_on})\n" if late else ""
    (tmp_path / "chains.py").write_text(code + IMPORTS + "chain = prompt | model")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}
    environment |= told | ({} if late else turned_on)
    call = [sys.executable, "-c", ASKED.format(ours=ours), str(tmp_path / "chains.py")]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=60, check=False)
    server.shutdown()
    server.server_close()
    assert done.stdout.strip() == "Paris", done.stderr
    assert bool(server.calls) is not ours, done.stderr  # type: ignore[attr-defined]


def test_what_it_can_and_who_it_is(tmp_path: Path) -> None:
    engine = langchain(tmp_path, "chain = model")
    capabilities = engine.capabilities
    assert (capabilities.repeatable, capabilities.seeds, capabilities.params) == (False, False, None)
    assert engine.identity.startswith("langchain-")
    assert langchain(tmp_path, "chain = model  # edited").identity != engine.identity


PROJECT = "models:\n  paris: {engine: langchain, path: chains.py:chain, price: {input: 1, output: 1}}\n"
SUITE = """
name: capitals
prompts: [ask]
models: [paris]
repeats: 2
cases:
  - {id: a, country: France, expected: Paris}
  - {id: b, country: Italy, expected: Rome}
scorers: [contains]
"""


def test_a_run_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in {
        "workbench.yaml": PROJECT,
        "evals/capitals.yaml": SUITE,
        "chains.py": IMPORTS + "chain = prompt | model",
        "prompts/ask.prompty": "user:\nThe capital of {{ country }}?",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def call(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["--project", str(tmp_path), *arguments]) == 0
        return capsys.readouterr().out

    call("run", "capitals", "--quiet")
    (scorer,) = [json.loads(line) for line in call("show", "latest", "--json").splitlines()]
    (summary,) = scorer["summaries"]
    assert (summary["mean"], summary["cases"]) == (0.5, 2)
    assert json.loads(call("run", "capitals", "--dry-run", "--json"))["answered"] == 4
    assert check_model(load_project(tmp_path).model("paris")).text == "Paris"
    (tmp_path / "evals/capitals.yaml").write_text(SUITE + "params: {temperature: [0, 1]}\n")
    assert main(["--project", str(tmp_path), "run", "capitals"]) == 2
    assert "without: [temperature]" in capsys.readouterr().err
