"""What is known of each model, and whether it answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doubles.tiny_gguf import write_gguf

from workbench.cli import main
from workbench.errors import ModelError, UnknownName
from workbench.loopback import Fault, serve
from workbench.models import check_model, describe_models, open_models
from workbench.records import Model

ECHO = Model("echo", "echo", price={"input": 0.0, "output": 0.0})


def models_of(folder: Path) -> dict[str, Model]:
    tiny = write_gguf(folder / "tiny.gguf")
    models = [
        ECHO,
        Model("tiny", "llama", {"path": str(tiny)}),
        Model("small", "llama", {"path": str(tiny), "quantise": "q8_0", "context": 64}),
        Model("gone", "llama", {"path": str(folder / "gone.gguf")}),
        Model("far", "llama", {"path": "hf:owner/repo/far.gguf"}),
        Model("house", "openai", {"model": "m", "base_url": "http://127.0.0.1:9/v1"}, {"input": 0.15, "output": 0.6}),
        Model("keyless", "openai", {"model": "big"}),
        Model("odd", "no-engine", {}),
    ]
    return {model.alias: model for model in models}


def test_every_model_is_a_row_whether_it_opens_or_not(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    rows = {row["alias"]: row for row in describe_models(models_of(tmp_path))}
    assert [alias for alias, row in rows.items() if row["ready"]] == ["echo", "tiny", "small", "house"]
    told = {key: rows["tiny"][key] for key in ("quantisation", "context", "licence", "price")}
    assert told == {"quantisation": "f32", "context": 128, "licence": "cc0-1.0", "price": None}
    assert rows["tiny"]["bytes"] == (tmp_path / "tiny.gguf").stat().st_size
    assert (rows["small"]["quantisation"], rows["small"]["context"]) == ("q8_0 from f32, not made yet", 64)
    assert rows["house"]["what"] == "m at http://127.0.0.1:9/v1"
    assert rows["house"]["price"] == {"input": 0.15, "output": 0.6}
    assert (rows["far"]["what"], rows["keyless"]["what"]) == ("hf:owner/repo/far.gguf", "big")
    for alias, reason in {
        "gone": "there is no model file",
        "far": "not fetched",
        "keyless": "OPENAI_API_KEY",
        "odd": "unknown engine 'no-engine'",
    }.items():
        assert reason in str(rows[alias]["reason"])


def test_models_are_opened_by_their_engines() -> None:
    assert open_models({"a": ECHO})["a"].identity.startswith("echo")
    with pytest.raises(UnknownName, match="did you mean 'echo'"):
        open_models({"a": Model("a", "ecko")})
    with pytest.raises(ModelError):
        open_models({"a": Model("a", "llama")})


def test_a_check_measures(tmp_path: Path) -> None:
    check = check_model(Model("e", "echo", {"delay": 0.5, "tokens_per_second": 20.0, "answers": {"": "a b c"}}))
    assert (check.answered, check.text, check.seconds, check.output_tokens) == (True, "a b c", 0.65, 3)
    assert check.prompt_tokens_per_second == pytest.approx(6 / 0.55)
    assert check.output_tokens_per_second == pytest.approx(20)
    pytest.importorskip("llama_cpp")
    raw = check_model(Model("t", "llama", {"path": str(write_gguf(tmp_path / "raw.gguf", None))}))
    assert raw.answered and raw.prompt_tokens == 31


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Model("e", "echo", {"fail_first": 1}), "server: scripted failure"),
        (Model("k", "openai", {"model": "m"}), "OPENAI_API_KEY"),
        (Model("x", "nix"), "unknown engine 'nix'"),
    ],
)
def test_a_check_never_raises(model: Model, reason: str) -> None:
    check = check_model(model)
    assert not check.answered and reason in check.text


def project(folder: Path, text: str) -> list[str]:
    (folder / "workbench.yaml").write_text(text)
    return ["--project", str(folder), "models"]


def test_the_command_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = project(
        tmp_path, "models:\n  house: {engine: openai, model: m, api_key_env: NIX, price: {input: 1, output: 2}}\n"
    )
    assert main([*start, "list", "--json"]) == 0
    rows = {row["alias"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["echo"]["ready"] is True and rows["house"]["ready"] is False
    assert main([*start, "list"]) == 0
    table = capsys.readouterr().out
    assert "ALIAS" in table and "$1 in, $2 out per million tokens" in table and "environment variable NIX" in table


def test_the_command_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve() as server:
        start = project(tmp_path, f"models:\n  house: {{engine: openai, model: m, base_url: '{server.url}'}}\n")
        assert main([*start, "check", "house"]) == 0
        told = capsys.readouterr().out
        assert "house answers: Say hello" in told and "6 prompt tokens" in told
        assert main([*start, "check", "house", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["answered"] is True
        server.use(faults=(Fault(status=400),))
        assert main([*start, "check", "house"]) == 3
        assert "house does not answer: refused" in capsys.readouterr().err
    assert main([*start, "check", "hose"]) == 2
    assert "unknown model 'hose'; did you mean 'house'?" in capsys.readouterr().err
