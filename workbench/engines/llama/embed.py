"""Embeddings: texts in batches, one sequence each, pooled by llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.engines.llama.adapters import Adapter
from workbench.engines.llama.context import Context, Shape

POOLING = {"mean": 1, "cls": 2, "last": 3}
"""`llama_pooling_type`: how a text's token embeddings become one."""
GROUP = 512
"""Tokens of short texts that are embedded together: each looks in vain at the others'."""


class Embedder:
    """A model opened to embed; `close` frees it. `pooling` None: the model's own. Raises EngineError."""

    def __init__(self, path: Path, shape: Shape, pooling: str | None, adapters: Sequence[Adapter] = ()) -> None:
        changes: dict[str, Any] = {"embeddings": True, "kv_unified": True}
        if pooling is not None:
            changes["pooling_type"] = POOLING[pooling]
        self._context = Context(path, shape, changes, adapters)

    def close(self) -> None:
        self._context.close()

    def embed(self, texts: Sequence[Sequence[int]], scales: Sequence[float]) -> Iterator[NDArray[np.float32]]:
        """One vector of length 1 (Euclidean) for each text, given as its tokens, at most a batch, in their order;
        with the adapters so strong."""
        self._context.adapt(scales)
        group: list[Sequence[int]] = []
        for tokens in texts:
            full = sum(map(len, group)) + len(tokens) > min(GROUP, self._context.batch)
            if group and (full or len(group) == self._context.sequences):
                yield from self._group(group)
                group = []
            group.append(tokens)
        if group:
            yield from self._group(group)

    def _group(self, group: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        self._context.clear()
        for sequence, tokens in enumerate(group):
            for position, token in enumerate(tokens):
                self._context.add(token, position, sequence, True)
        self._context.decode()
        vectors = [self._context.embedding(sequence) for sequence in range(len(group))]
        return [vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in vectors]
