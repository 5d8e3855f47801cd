"""A function of the project's own as a model."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from doubles.asking import Row, ask, user
from hypothesis import given
from hypothesis import strategies as st

from workbench.cli import main
from workbench.define.project import load_project
from workbench.engines.python import PythonEngine
from workbench.errors import ModelError, SuiteError, WorkbenchError
from workbench.models import check_model, describe_models
from workbench.records import Message, Model, Request
from workbench.registry import ENGINES

PRICE = {"input": 1.0, "output": 2.0}
ECHO = "def answer(messages, params, seed):\n    return messages[-1]['content']\n"


def echoed(messages: list[dict[str, str]], params: dict[str, object], seed: int | None) -> str:
    return messages[-1]["content"]


def python(folder: Path, code: str, name: str = "answer", **settings: object) -> PythonEngine:
    file = folder / "mine.py"
    file.write_text(code)
    limits = settings.pop("limits", {})
    return PythonEngine(Model("mine", "python", {"path": f"{file}:{name}", **settings}, PRICE, limits))


def returning(folder: Path, value: str) -> PythonEngine:
    return python(folder, f"def answer(messages, params, seed):\n    return {value}\n")


def test_it_gets_messages_parameters_and_seed(tmp_path: Path) -> None:
    code = "import json\ndef answer(messages, params, seed):\n    return json.dumps([messages, params, seed])\n"
    messages = (Message.of("system", "be brief"), Message.of("user", "hello"))
    (output,) = ask(python(tmp_path, code), Request("r", "mine", messages, {"temperature": 0.5, "stop": ["x"]}, seed=7))
    told = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    assert json.loads(output.text) == [told, {"temperature": 0.5, "stop": ["x"]}, 7]
    assert (output.failure, output.finish_reason, output.prompt_tokens, output.cost) == (None, "stop", None, None)
    assert output.seconds is not None and output.seconds >= 0


def test_what_it_does_to_its_arguments_stays_with_it(tmp_path: Path) -> None:
    code = "def answer(messages, params, seed):\n    params['stop'].append('y'); params.clear(); return 'a'\n"
    request = user("q", params={"stop": ["x"]})
    ask(python(tmp_path, code), request)
    assert request.params == {"stop": ["x"]}


@pytest.mark.parametrize(
    ("returned", "text", "tokens", "cost"),
    [
        ("'a'", "a", (None, None), None),
        ("''", "", (None, None), None),
        ("{'text': 'a'}", "a", (None, None), None),
        ("{'text': 'a', 'prompt_tokens': 3, 'output_tokens': 2}", "a", (3, 2), 7e-6),
        ("{'text': 'a', 'prompt_tokens': 3, 'output_tokens': 2, 'cost': 0}", "a", (3, 2), 0.0),
        ("{'text': 'a', 'cost': 0.5}", "a", (None, None), 0.5),
        ("{'text': 'a', 'output_tokens': __import__('numpy').int64(4)}", "a", (None, 4), None),
    ],
)
def test_answers(tmp_path: Path, returned: str, text: str, tokens: tuple, cost: float | None) -> None:
    (output,) = ask(returning(tmp_path, returned), user("q"))
    assert output.failure is None
    assert (output.text, (output.prompt_tokens, output.output_tokens)) == (text, tokens)
    assert output.cost == pytest.approx(cost)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("None", "it returned None; it has to return a text"),
        ("3", "it returned 3"),
        ("{'txt': 'a'}", "or a dict with a `text`"),
        ("{'text': 'a', 'prompt_token': 1}", "'prompt_token'; did you mean 'prompt_tokens'"),
        ("{'text': 'a', 'prompt_tokens': -1}", "prompt_tokens is -1; it has to be a count"),
        ("{'text': 'a', 'output_tokens': 1.5}", "output_tokens is 1.5"),
        ("{'text': 'a', 'output_tokens': True}", "output_tokens is True"),
        ("{'text': 'a', 'cost': float('nan')}", "cost is nan; it has to be US dollars"),
        ("{'text': 'a', 'cost': 'much'}", "cost is 'much'"),
        ("'\\ud800'", "surrogates not allowed"),
    ],
)
def test_what_is_no_answer_is_a_failure(tmp_path: Path, returned: str, message: str) -> None:
    (output,) = ask(returning(tmp_path, returned), user("q"))
    assert output.failure is not None
    assert (output.failure.kind, output.finish_reason) == ("bad_answer", "failed")
    assert message in output.failure.message
    assert str(tmp_path / "mine.py") in output.failure.message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("raise KeyError('label')", "KeyError: 'label'"),
        ("raise ValueError('two\\n  lines')", "ValueError: two lines"),
        ("int('x')", "ValueError: invalid literal"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: "),
        ("import json; json.loads('{')", "JSONDecodeError"),
        ("eval('1 +')", "SyntaxError: invalid syntax"),
    ],
)
def test_an_exception_is_a_failure_with_its_place_and_others_go_on(tmp_path: Path, line: str, message: str) -> None:
    code = f"def answer(messages, params, seed):\n    if messages[-1]['content'] == 'bad':\n        {line}\n    return 'good'\n"
    outputs = {o.request_id: o for o in ask(python(tmp_path, code), user("bad", "1"), user("q", "2"))}
    assert outputs["2"].text == "good"
    failure = outputs["1"].failure
    assert failure is not None
    assert (failure.kind, failure.retry) == ("error", False)
    assert message.strip() in failure.message
    assert "\n" not in failure.message
    assert "SyntaxError" in message or failure.message.startswith(f"{tmp_path / 'mine.py'}:3: ")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def answer(:\n", r"mine\.py:1: SyntaxError: "),
        ("x = 1\nboom\n", r"mine\.py:2: NameError: name 'boom' is not defined"),
        ("\nimport no_such_module\n", r"mine\.py:2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(3)\n", r"mine\.py:1: SystemExit: 3"),
        ("a\0b", r"mine\.py.*null byte"),
        ("def anser(m, p, s): ...\n", r"mine\.py: there is no 'answer' in it; did you mean 'anser'\?"),
        ("answer = 3\n", r"mine\.py:answer is of type int; it has to be a function"),
        ("def answer(messages): ...\n", r"has to take \(messages, params, seed\): too many positional"),
        ("def answer(a, b, c, d): ...\n", r"missing a required argument: 'd'"),
        ("async def answer(m, p, s): ...\n", "is async; it has to be a plain function"),
    ],
)
def test_a_file_that_can_not_be_used(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        python(tmp_path, code)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "limits", "message"),
    [
        ({}, {}, "model 'm' needs a `path` such as mine.py:answer"),
        ({"path": "a.py:b", "object": "a:b"}, {}, "needs a `path`"),
        ({"rest": "mine.py:answer"}, {}, "only workbench.yaml can name code to run"),
        ({"path": "mine.py"}, {}, "path 'mine.py' has to look like mine.py:answer"),
        ({"path": "mine.txt:answer"}, {}, "has to look like"),
        ({"path": "mine.py:a.b"}, {}, "has to look like"),
        ({"path": "/nowhere/mine.py:answer"}, {}, r"/nowhere/mine\.py can't be read: No such file"),
        ({"path": "a\0.py:answer"}, {}, "can't be read: embedded null byte"),
        ({"object": "a/b:c"}, {}, "object 'a/b:c' has to look like package.mine:answer"),
        ({"object": "no_such_package.mine:answer"}, {}, "No module named 'no_such_package'"),
        ({"object": "no_such_package:answer"}, {}, "there is no module 'no_such_package'"),
        ({"object": "json:answer"}, {}, "there is no 'answer' in it"),
        ({"path": "a.py:b", "vresion": 1}, {}, "unknown setting 'vresion'; did you mean 'version'"),
        ({"path": "a.py:b"}, {"timeout": 3}, "unknown limit 'timeout'; known: concurrency"),
    ],
)
def test_wrong_settings(settings: dict, limits: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        PythonEngine(Model("m", "python", settings, limits=limits))


def test_a_module_can_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "answering_module.py").write_text("def shout(m, p, s):\n    return m[-1]['content'].upper()\n")
    monkeypatch.syspath_prepend(tmp_path)
    engine = PythonEngine(Model("m", "python", {"object": "answering_module:shout"}))
    assert ask(engine, user("hey"))[0].text == "HEY"
    assert engine.describe() == {"file": "answering_module:shout"}


def test_identity_is_the_text_and_the_settings_but_not_the_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = python(tmp_path / "a", ECHO).identity
    assert python(tmp_path / "b", ECHO).identity == first
    others = [
        python(tmp_path / "a", ECHO + "# edited\n").identity,
        python(tmp_path / "a", ECHO + "other = answer\n", "other").identity,
        python(tmp_path / "a", ECHO, version=2).identity,
    ]
    assert len({first, *others}) == 4


def test_an_edited_file_is_read_anew_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    assert ask(python(tmp_path, ECHO), user("q"))[0].text == "q"
    assert ask(returning(tmp_path, "'new'"), user("q"))[0].text == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


MEETING = """
import threading
barrier = threading.Barrier(%d)
def answer(messages, params, seed):
    barrier.wait(10)
    return "met"
"""


@pytest.mark.parametrize(("limits", "at_once"), [({}, 4), ({"concurrency": 7}, 7)])
def test_several_are_asked_at_a_time_and_no_more(tmp_path: Path, limits: dict, at_once: int) -> None:
    engine = python(tmp_path, MEETING % at_once, limits=limits)
    row = Row(user("q", str(i)) for i in range(at_once * 3))
    outputs = list(engine.generate(row))
    assert row.largest == at_once
    assert {o.request_id for o in outputs} == {str(i) for i in range(at_once * 3)}
    assert all(o.text == "met" for o in outputs)


def test_the_first_to_end_comes_first(tmp_path: Path) -> None:
    code = "import time\ndef answer(m, p, s):\n    time.sleep(float(m[-1]['content'])); return 'a'\n"
    outputs = ask(python(tmp_path, code), user("0.3", "slow"), user("0", "fast"))
    assert [o.request_id for o in outputs] == ["fast", "slow"]


def test_cancelled_what_has_not_begun_is_dropped_and_what_runs_ends(tmp_path: Path) -> None:
    gone: set[str] = set()
    engine = python(tmp_path, ECHO, limits={"concurrency": 1})
    row = Row([user("a", "1"), user("b", "2"), user("c", "3")], cancel=lambda: gone)
    outputs = {}
    for output in engine.generate(row):
        outputs[output.request_id] = output
        gone.update(("1", "2"))
    assert outputs["1"].text == "a", "it had run when it was cancelled"
    assert outputs["2"].failure is not None and outputs["2"].failure.kind == "cancelled"
    assert outputs["3"].text == "c"


def test_closing_the_iterator_ends_its_threads(tmp_path: Path) -> None:
    before = threading.active_count()
    answers = python(tmp_path, ECHO).generate(Row(user("q", str(i)) for i in range(20)))
    next(answers)
    answers.close()
    assert threading.active_count() == before


@given(st.lists(st.text(max_size=8), max_size=12), st.integers(1, 5))
def test_each_request_gets_its_own_answer_once(texts: list[str], at_once: int) -> None:
    engine = PythonEngine(Model("m", "python", {"object": f"{__name__}:echoed"}, limits={"concurrency": at_once}))
    outputs = ask(engine, *(user(text, str(i)) for i, text in enumerate(texts)))
    assert {o.request_id: o.text for o in outputs} == {str(i): text for i, text in enumerate(texts)}
    assert len(outputs) == len(texts)


PROJECT = """
models:
  mine: {engine: python, path: evals/mine.py:answer, limits: {concurrency: 2}}
"""
SUITE = """
name: mine
prompts: [hello]
models: [mine]
params: {temperature: 0.5}
cases:
  - {id: a, who: Ann, expected: Ann}
  - {id: b, who: Ben, expected: Ben}
  - {id: c, who: Cat, expected: Cat}
scorers: [contains]
allow_failed: 0.5
"""
MINE = """
def answer(messages, params, seed):
    assert isinstance(seed, int) and params == {"temperature": 0.5}
    text = messages[-1]["content"]
    if "Cat" in text:
        raise LookupError("no cats")
    return {"text": text, "prompt_tokens": 2, "output_tokens": 2, "cost": 0.25}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {
        "workbench.yaml": PROJECT,
        "evals/mine.yaml": SUITE,
        "evals/mine.py": MINE,
        "prompts/hello.prompty": "user:\nHello {{ who }}",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_run_through_the_command_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["--project", str(project), *arguments])
        return code, capsys.readouterr().out

    assert call("run", "mine", "--quiet")[0] == 0
    code, shown = call("show", "latest", "--failures")
    assert code == 0
    assert "LookupError: no cats" in shown
    assert "mine.py:6" in shown
    again = json.loads(call("run", "mine", "--dry-run", "--json")[1])
    (project / "evals/mine.py").write_text(MINE + "# edited\n")
    edited = json.loads(call("run", "mine", "--dry-run", "--json")[1])
    assert (again["answered"], edited["answered"]) == (2, 0), "the failure is asked again; the edited file for all"


def test_a_file_that_breaks_stops_the_command_before_a_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "evals/mine.py").write_text("\nboom\n")
    assert main(["--project", str(project), "run", "mine"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{project / 'evals/mine.py'}:2: NameError" in line


def test_models_are_listed_without_running_their_code(project: Path) -> None:
    (project / "evals/mine.py").write_text("raise SystemExit('run')\n")
    models = load_project(project).models
    (row,) = describe_models({"mine": models["mine"]})
    assert (row["ready"], row["what"]) == (True, f"{project}/evals/mine.py:answer")
    check = check_model(models["mine"])
    assert not check.answered
    assert "mine.py:1: SystemExit: run" in check.text


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("{engine: python}", SuiteError, r"workbench.yaml:2: models.m needs a path, FILE.py:NAME"),
        ("{engine: langchain}", SuiteError, r"workbench.yaml:2: models.m needs a path, FILE.py:NAME"),
    ],
)
def test_the_project_names_the_code(tmp_path: Path, model: str, error: type[WorkbenchError], message: str) -> None:
    (tmp_path / "workbench.yaml").write_text(f"models:\n  m: {model}\n")
    with pytest.raises(error, match=message):
        load_project(tmp_path)


def test_a_suite_can_not_choose_which_code_runs(project: Path) -> None:
    model = load_project(project).model("python:evals/mine.py:answer")
    with pytest.raises(ModelError, match="only workbench.yaml can name code"):
        ENGINES.get("python")(model)
