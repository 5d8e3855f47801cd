"""A loaded model with its KV cache, and one batch that is filled and evaluated.

The cache is unified: its cells are shared by all sequences, and copying a sequence marks cells and moves
no data.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.engines.llama import library
from workbench.engines.llama.adapters import Adapter, apply_adapters, free_adapters, load_adapters
from workbench.errors import EngineError
from workbench.records import EMPTY

SHORTLIST = 1024
"""The longest list of candidates that is found before a sampler chain is asked."""
BLOCK = 64
BATCH = 256
"""Prompt tokens evaluated at once: of 512, more look in vain at cells that come after them (docs/benchmarks.md)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a context is made."""

    cells: int
    """Tokens that the cache holds, all sequences together."""
    batch: int
    """Tokens evaluated at once."""
    threads: int
    sequences: int
    flash: bool = True
    """Attention block by block, where the model allows it, or by one multiplication over all cells."""


class Context:
    """Weights with their adapters, cache and batch; `close` frees all. Raises EngineError where the model can't be
    loaded, or an adapter doesn't fit it."""

    def __init__(
        self, path: Path, shape: Shape, changes: Mapping[str, Any] = EMPTY, adapters: Sequence[Adapter] = ()
    ) -> None:
        self.lib = lib = library.load()
        self.cells, self.batch, self.sequences = shape.cells, shape.batch, shape.sequences
        self._model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not self._model:
            raise EngineError(f"{path} cannot be loaded: {library.explain()}")
        self.handle: Any = None
        self._adapters: list[Any] = []
        self._changes = changes
        try:
            self._adapters = load_adapters(self._model, adapters)
            self.reopen(shape)
            self.adapt([adapter.scale for adapter in adapters])
        except EngineError:
            self.close()
            raise
        self.vocabulary_size: int = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))
        self.candidates = Candidates(lib, SHORTLIST)
        self._count = 0
        self._make_batch(shape.batch)

    def reopen(self, shape: Shape) -> None:
        """Cache and batch anew, in another shape; the weights stay. Raises EngineError where memory doesn't suffice."""
        if self.handle:
            self.lib.llama_free(self.handle)
        self.handle = self.lib.llama_init_from_model(self._model, _params(self.lib, shape, self._changes))
        if not self.handle:
            raise EngineError(
                f"no memory for {shape.cells} tokens of context: {library.explain()}; set a smaller `context`"
            )
        self.shape = shape
        self.scales: tuple[float, ...] = ()
        self._memory = self.lib.llama_get_memory(self.handle)

    def close(self) -> None:
        if self.handle:
            self.lib.llama_free(self.handle)
        if self._model:
            free_adapters(self._adapters)
            self.lib.llama_model_free(self._model)
        self.handle, self._model, self._adapters = None, None, []

    def adapt(self, scales: Sequence[float]) -> None:
        """How strongly each adapter counts from here on; what is in the cache stays as it was evaluated."""
        if self.scales != (wanted := tuple(scales)):
            apply_adapters(self.handle, self._adapters, wanted)
            self.scales = wanted

    def add(self, token: int, position: int, sequence: int | None, wanted: bool) -> int:
        """Adds a token to the batch; returns its entry. Logits can be had of it only where `wanted`."""
        entry = self._count
        self._tokens[entry] = token
        self._positions[entry] = position
        self._sequences[entry] = sequence
        self._wanted[entry] = wanted
        self._count = entry + 1
        return entry

    def decode(self) -> None:
        """Evaluates the batch and empties it."""
        self._entries.n_tokens, self._count = self._count, 0
        code = self.lib.llama_decode(self.handle, self._entries)
        if code != 0:
            count = self._entries.n_tokens
            raise EngineError(f"llama.cpp could not evaluate {count} tokens: {library.explain()} (code {code})")

    def row(self, entry: int) -> Row:
        """The logits of an entry of the last batch; they hold until the next `decode`."""
        return Row(self, entry)

    def copy(self, source: int | None, target: int, end: int) -> None:
        """The target sequence begins with the first `end` tokens of the source."""
        self.lib.llama_memory_seq_cp(self._memory, source, target, 0, end)

    def trim(self, sequence: int, start: int) -> None:
        """Drops a sequence's tokens from `start` on; cells that no other sequence holds become free."""
        self.lib.llama_memory_seq_rm(self._memory, sequence, start, -1)

    def embedding(self, sequence: int) -> NDArray[np.float32]:
        """The pooled embedding of a sequence of the last batch. Raises EngineError where the model pools none."""
        pointer = self.lib.llama_get_embeddings_seq(self.handle, sequence)
        if not pointer:
            raise EngineError("the model gives no embedding of a text; set `pooling` to mean, cls or last")
        size = self.lib.llama_model_n_embd(self._model)
        return np.ctypeslib.as_array(pointer, (size,)).copy()

    def clear(self) -> None:
        if not self._memory:  # a model that only encodes keeps nothing
            return
        self.lib.llama_memory_clear(self._memory, True)

    def _make_batch(self, size: int) -> None:
        """The arrays of a llama_batch, written in place; each entry belongs to one sequence."""
        lib = self.lib
        self._tokens: Any = (lib.llama_token * size)()
        self._positions: Any = (lib.llama_pos * size)()
        self._sequences: Any = (lib.llama_seq_id * size)()
        self._wanted: Any = (ctypes.c_int8 * size)()
        self._ones: Any = (ctypes.c_int32 * size)(*([1] * size))
        pointer = ctypes.POINTER(lib.llama_seq_id)
        at, width = ctypes.addressof(self._sequences), ctypes.sizeof(lib.llama_seq_id)
        self._places = (pointer * size)(*(ctypes.cast(at + i * width, pointer) for i in range(size)))
        self._entries = lib.llama_batch(
            n_tokens=0,
            token=self._tokens,
            embd=None,
            pos=self._positions,
            n_seq_id=self._ones,
            seq_id=self._places,
            logits=self._wanted,
        )


class Candidates:
    """The array that a sampler chain works on."""

    _ENTRY = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

    def __init__(self, lib: Any, most: int) -> None:
        self.tokens = np.zeros(most, self._ENTRY)
        pointer = ctypes.cast(self.tokens.ctypes.data, ctypes.POINTER(lib.llama_token_data))
        self._array = lib.llama_token_data_array(pointer, 0, -1, True)
        self._reference = ctypes.byref(self._array)

    def draw(self, lib: Any, chain: Any, logits: NDArray[np.float32], ids: NDArray[np.int64]) -> int:
        count = len(ids)
        self.tokens["id"][:count], self.tokens["logit"][:count] = ids, logits[ids]
        self._array.size, self._array.selected, self._array.sorted = count, -1, True
        lib.llama_sampler_apply(chain, self._reference)
        # a sampler may have moved the array to memory of its own
        token = int(self._array.data[self._array.selected].id)
        self._array.data = ctypes.cast(self.tokens.ctypes.data, type(self._array.data))
        lib.llama_sampler_accept(chain, token)
        return token


def likeliest(logits: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The ids of the largest logits, the largest first.

    The count-th largest of the blocks' maxima bounds them from below, so that few logits are sorted: eight
    times faster than a partition of all (vocabulary 49,152).
    """
    blocks = logits[: len(logits) // BLOCK * BLOCK].reshape(-1, BLOCK).max(axis=1)
    if len(blocks) <= count:
        return np.argsort(-logits, kind="stable")[:count]
    bound = np.partition(blocks, -count)[-count]
    above = np.flatnonzero(logits >= bound)
    return above[np.argsort(-logits[above], kind="stable")][:count]


class Row:
    """The logits after one token."""

    def __init__(self, context: Context, entry: int) -> None:
        self._context, self._entry = context, entry
        self._likeliest: dict[int, NDArray[np.int64]] = {}

    def sample(self, chain: Any, shortlist: int | None = None) -> int:
        """The next token, drawn by a sampler chain of llama.cpp, which also takes note of it.

        A chain that begins with top-k needs no more than that many tokens: given as `shortlist`, they are
        found once for all the trials that draw from this row.
        """
        context = self._context
        if shortlist is None or shortlist > len(context.candidates.tokens):
            return int(context.lib.llama_sampler_sample(chain, context.handle, self._entry))
        if shortlist not in self._likeliest:
            self._likeliest[shortlist] = likeliest(self.logits, shortlist)
        return context.candidates.draw(context.lib, chain, self.logits, self._likeliest[shortlist])

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        pointer = self._context.lib.llama_get_logits_ith(self._context.handle, self._entry)
        values: NDArray[np.float32] = np.ctypeslib.as_array(pointer, (self._context.vocabulary_size,))
        return values

    @cached_property
    def best(self) -> int:
        """The most probable token."""
        return int(self.logits.argmax())

    @cached_property
    def log_probabilities(self) -> NDArray[np.float64]:
        """Natural logarithms of the model's own distribution of the next token, before any sampler."""
        values = self.logits.astype(np.float64)
        values -= values.max()
        values -= np.log(np.exp(values).sum())
        return values


def _params(lib: Any, shape: Shape, changes: Mapping[str, Any]) -> Any:
    params = lib.llama_context_default_params()
    # llama.cpp aborts where a batch could not hold a token of every sequence
    params.n_ctx = max(shape.cells, shape.sequences)
    params.n_batch = params.n_ubatch = max(shape.batch, shape.sequences)
    params.n_threads = params.n_threads_batch = shape.threads
    params.n_seq_max = shape.sequences
    params.kv_unified = True
    params.swa_full = True  # a sliding window would drop what a branch may still need
    params.no_perf = True
    if not shape.flash:
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    for name, value in changes.items():
        setattr(params, name, value)
    return params
