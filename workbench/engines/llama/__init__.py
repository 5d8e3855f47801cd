"""Models in GGUF files, run in this process by llama.cpp.

files.py        which file, whether it is whole, its hash
quantise.py     other quantisations, made once
library.py      llama_cpp, imported in one place
vocabulary.py   metadata and tokens, without the weights
chat.py         messages to tokens, by the model's own template
sampling.py     parameters to a chain of samplers
stream.py       token bytes to text
context.py      weights and KV cache
lock.py         one process decodes at a time
engine.py       requests to outputs
"""

from workbench.engines.llama.engine import LlamaEngine

__all__ = ["LlamaEngine"]
