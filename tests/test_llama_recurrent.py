"""A model whose state can't be shared or cut back: its requests are answered one by one, each as if alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
from doubles.asking import ask, user
from doubles.tiny_gguf import write_gguf

from workbench.engines.llama import LlamaEngine, library
from workbench.errors import ModelError
from workbench.models import check_model
from workbench.records import Model, Variant
from workbench.run.plan import check_capabilities

pytest.importorskip("llama_cpp")

TEXTS = ("hello", "hello you", "hello", "something else")
PARAMS = {"temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = write_gguf(tmp_path_factory.mktemp("mamba") / "mamba.gguf", recurrent=True)
    return Model("mamba", "llama", {"path": str(path)})


@pytest.fixture
def engine(model: Model) -> Iterator[LlamaEngine]:
    engine = LlamaEngine(model)
    yield engine
    engine.close()


def test_greedy_texts_are_those_of_plain_llama_cpp(engine: LlamaEngine) -> None:
    requests = [user(text, f"{i}", params=PARAMS) for i, text in enumerate(TEXTS)]
    outputs = ask(engine, *requests)
    plain = library.load().Llama(str(engine.path), n_ctx=128, n_threads=1, verbose=False)
    for request, output in zip(requests, outputs, strict=True):
        plain.reset()
        prompt = list(engine._tokens(request))
        wanted = list(islice(plain.generate(prompt, temp=0), 12))
        assert output.failure is None and output.output_tokens == 12
        assert output.text == b"".join(map(engine.vocabulary.piece, wanted)).decode(errors="replace")
    plain.close()


def test_nothing_is_shared_and_each_answer_is_the_same_in_any_company(engine: LlamaEngine) -> None:
    requests = [user(text, f"{i}", params={**PARAMS, "temperature": 1.0}, seed=i) for i, text in enumerate(TEXTS)]
    together = {output.request_id: output.text for output in ask(engine, *requests)}
    work = engine.work()
    assert work["asked"] - work["evaluated"] == len(TEXTS), "only the last token of each is not evaluated"
    alone = {request.id: ask(engine, request)[0].text for request in reversed(requests)}
    assert together == alone and len(set(together.values())) == len(TEXTS)


def test_it_says_so(engine: LlamaEngine, model: Model) -> None:
    assert engine.capabilities.exact and not engine.capabilities.choices
    assert engine.describe()["shares_prefixes"] is False
    variant = Variant("prompt", "revision", "mamba", answer={"choices": ["a", "b"]})
    with pytest.raises(ModelError, match="can't do answer: choices"):
        check_capabilities(variant, engine.capabilities)
    check = check_model(model)
    assert check.answered and set(check.speeds[0].decode) == {1}
    assert (
        check.advice == "this model's state can't be shared: its requests are answered one by one, each from the start"
    )
