"""How attention is computed on a CPU: block by block ("flash"), or by one multiplication of matrices over all cells.

Block by block passes over the cells of other answers at little cost, but takes longer for each cell that it looks at:
measured after a prefix of 1,500 tokens that 48 answers share, a step takes 329 ms so and 144 ms the other way, after
600 tokens 277 and 210. Where each answer looks at few of the cells it is the faster one (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.engines.llama import library
from workbench.engines.llama.context import Shape
from workbench.engines.llama.trie import common_length

COMMON_SHARE = 0.5
"""Of the cells in use: from what share on that belongs to all requests one multiplication is the faster way."""
MOST_SCORES = 500_000_000
"""Bytes that the scores of attention may take where they are computed for all cells at once."""


def flash_helps(asked: Sequence[tuple[list[int], int]], branches: int, shape: Shape, heads: int) -> bool:
    """Whether attention had better be computed block by block for requests, given as their prompts' tokens and the most
    tokens of their answers, of which so many are alive at once. It depends on the requests alone."""
    if library.load().llama_supports_gpu_offload() or shape.cells * shape.batch * heads * 4 > MOST_SCORES:
        return True
    prompts = list({id(prompt): prompt for prompt, _ in asked}.values())
    common = common_length(min(prompts), max(prompts))
    own = sum(len(prompt) - common for prompt in prompts[:branches]) + sum(room // 2 for _, room in asked[:branches])
    return common < COMMON_SHARE * (common + own)
