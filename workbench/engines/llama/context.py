"""A loaded model with its KV cache: one sequence, evaluated token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.engines.llama import library
from workbench.engines.llama.sampling import Chain
from workbench.errors import EngineError

EXACT_STEP = 64
"""Tokens of a prompt evaluated at once in exact mode: 8 % slower than 512 at a time (SmolLM2 Q4_1, 2 cores),
and up to 63 tokens that two prompts share are evaluated again."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a context is made."""

    tokens: int
    """What prompt and answer may have together."""
    batch: int
    threads: int
    exact: bool


class Context:
    """Weights and cache; `close` frees both. Raises EngineError where the model cannot be loaded."""

    def __init__(self, path: Path, shape: Shape) -> None:
        self._lib = lib = library.load()
        self._step = EXACT_STEP if shape.exact else shape.batch
        self._exact = shape.exact
        self._model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not self._model:
            raise EngineError(f"{path} cannot be loaded: {library.explain()}")
        params = lib.llama_context_default_params()
        params.n_ctx = shape.tokens
        params.n_batch = params.n_ubatch = self._step
        params.n_threads = params.n_threads_batch = shape.threads
        params.n_seq_max = 1
        self._context = lib.llama_init_from_model(self._model, params)
        if not self._context:
            lib.llama_model_free(self._model)
            raise EngineError(
                f"no memory for {shape.tokens} tokens of context: {library.explain()}; set a smaller `context`"
            )
        self._memory = lib.llama_get_memory(self._context)
        self._size: int = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))
        self._cached: list[int] = []
        """The tokens in the cache, in order."""
        self._whole = 0
        """How many of them were evaluated in whole steps of a prompt."""

    def close(self) -> None:
        if self._context:
            self._lib.llama_free(self._context)
            self._lib.llama_model_free(self._model)
            self._context = None

    def evaluate(self, prompt: Sequence[int]) -> Iterator[None]:
        """Bring the cache to the end of the prompt, one step each time the iterator is advanced."""
        keep = self._keep(prompt)
        for start in range(keep, len(prompt), self._step):
            part = prompt[start : start + self._step]
            self._decode(part)
            if len(part) == self._step:
                self._whole = start + self._step
            yield

    def advance(self, token: int) -> None:
        """Evaluate one sampled token."""
        self._decode([token])

    def sample(self, chain: Chain) -> int:
        """The next token, drawn by the chain, which also takes note of it."""
        return int(self._lib.llama_sampler_sample(chain.handle, self._context, -1))

    def log_probabilities(self) -> NDArray[np.float64]:
        """Natural logarithms of the model's own distribution of the next token, before any sampler."""
        pointer = self._lib.llama_get_logits_ith(self._context, -1)
        logits: NDArray[np.float64] = np.ctypeslib.as_array(pointer, (self._size,)).astype(np.float64)
        logits -= logits.max()
        logits -= np.log(np.exp(logits).sum())
        return logits

    def _keep(self, prompt: Sequence[int]) -> int:
        """Drop from the cache what the prompt does not begin with; returns how many tokens stay.

        At least the last token is evaluated again: its logits are wanted.
        """
        same = 0
        for cached, wanted in zip(self._cached, prompt[:-1], strict=False):
            if cached != wanted:
                break
            same += 1
        if self._exact:
            same = min(same, self._whole) // self._step * self._step
        if not self._lib.llama_memory_seq_rm(self._memory, 0, same, -1):
            # Recurrent models cannot go back to the middle of a sequence.
            self._lib.llama_memory_clear(self._memory, True)
            same = 0
        del self._cached[same:]
        self._whole = min(self._whole, same)
        return same

    def _decode(self, tokens: Sequence[int]) -> None:
        ids: Any = (self._lib.llama_token * len(tokens))(*tokens)
        code = self._lib.llama_decode(self._context, self._lib.llama_batch_get_one(ids, len(tokens)))
        if code != 0:
            raise EngineError(f"llama.cpp could not evaluate {len(tokens)} tokens: {library.explain()} (code {code})")
        self._cached += tokens
