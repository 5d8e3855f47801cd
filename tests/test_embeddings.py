"""Embeddings of a local model: those of llama-cpp-python, alone and in batches."""

from __future__ import annotations

import numpy as np
import pytest
from doubles.asking import ask, user

from workbench.define.project import SMOLLM2
from workbench.engines.llama import LlamaEngine
from workbench.errors import ModelError
from workbench.records import Model

TEXTS = ["A cat sat on the mat.", "The dog barks.", "Ein Hund bellt laut in der Nacht.", "x", "Prices rose by 3 %."] * 9


@pytest.fixture(scope="module")
def engine():
    opened = LlamaEngine(Model("m", "llama", {"path": SMOLLM2, "quantise": "f16", "pooling": "mean", "context": 512}))
    yield opened
    opened.close()


@pytest.mark.model
def test_vectors_are_those_of_llama_cpp_python(engine: LlamaEngine) -> None:
    from llama_cpp import LLAMA_POOLING_TYPE_MEAN, Llama

    assert engine.capabilities.embeddings
    outputs = ask(engine, *(user(text, str(i), answer={"embedding": True}) for i, text in enumerate(TEXTS)))
    assert [output.request_id for output in outputs] == [str(i) for i in range(len(TEXTS))]
    vectors = np.array([output.extra["embedding"] for output in outputs])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    other = Llama(str(engine.path), embedding=True, pooling_type=LLAMA_POOLING_TYPE_MEAN, n_ctx=512, verbose=False)
    for text, vector in zip(TEXTS[:5], vectors, strict=False):
        assert np.dot(vector, other.embed(text, normalize=True)) > 0.999
    other.close()


@pytest.mark.model
def test_a_text_longer_than_the_context_is_said(engine: LlamaEngine) -> None:
    long, short = ask(
        engine, user("word " * 600, "1", answer={"embedding": True}), user("x", "2", answer={"embedding": True})
    )
    assert long.failure.kind == "too_long"
    assert long.failure.message == "the text has 601 tokens; the context holds 512"
    assert short.failure is None


def test_pooling_is_one_of_three() -> None:
    with pytest.raises(ModelError, match="'pooling' is 'max'; it has to be one of mean, cls, last"):
        LlamaEngine(Model("m", "llama", {"path": SMOLLM2, "pooling": "max"}))
    assert not LlamaEngine(Model("m", "llama", {"path": SMOLLM2})).capabilities.embeddings
