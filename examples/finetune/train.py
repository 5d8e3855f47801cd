"""Fine-tune a small local model on the examples of `workbench export training`, with llama.cpp's own optimiser.

A demonstration that runs anywhere the workbench does, without PyTorch: AdamW on all weights of the last layers, in
32 bits, on this machine's CPU. Every token of an example is learnt, the question's too. For real work use a trainer.
Beside OUT.gguf goes OUT.jinja, the chat template, which llama.cpp's saving leaves out.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import re
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int64,
    c_uint32,
    c_void_p,
)
from pathlib import Path
from types import SimpleNamespace

import llama_cpp
import numpy as np
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from workbench.define.project import load_project
from workbench.engines.llama import files
from workbench.engines.llama.quantise import quantised

CONTEXT = 256
"""Tokens of a window; the fewest that llama.cpp gives a context."""
INT32 = 26
"""GGML_TYPE_I32."""
QUIET = llama_cpp.llama_log_callback(lambda *_: None)


class AdamW(Structure):
    """`ggml_opt_optimizer_params`, with the unused part of plain gradient descent."""

    _fields_ = [(name, c_float) for name in ("rate", "beta1", "beta2", "eps", "decay", "sgd_rate", "sgd_decay")]


class OptParams(Structure):
    """`llama_opt_params`; llama-cpp-python's own lacks the last field."""

    _fields_ = [
        ("n_ctx_train", c_uint32), ("param_filter", c_void_p), ("param_filter_ud", c_void_p),
        ("get_opt_pars", c_void_p), ("get_opt_pars_ud", c_void_p), ("optimizer_type", c_int),
    ]  # fmt: skip


def functions() -> SimpleNamespace:
    """Of llama.cpp and ggml, as llama-cpp-python has loaded them, with the types of what is used here."""
    found = {}
    for name, result, *arguments in (
        ("ggml_opt_dataset_init", c_void_p, c_int, c_int, c_int64, c_int64, c_int64, c_int64),
        ("ggml_opt_dataset_data", c_void_p, c_void_p),
        ("ggml_opt_dataset_labels", c_void_p, c_void_p),
        ("ggml_get_data", c_void_p, c_void_p),
        ("ggml_get_name", c_char_p, c_void_p),
        ("ggml_opt_get_constant_optimizer_params", c_void_p),
        ("ggml_opt_result_init", c_void_p),
        ("ggml_opt_result_reset", None, c_void_p),
        ("ggml_opt_result_loss", None, c_void_p, POINTER(c_double), POINTER(c_double)),
        ("llama_opt_init", None, c_void_p, c_void_p, OptParams),
        ("llama_opt_epoch", None, c_void_p, c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_void_p),
        ("llama_model_save_to_file", None, c_void_p, c_char_p),
    ):
        found[name] = llama_cpp.llama_cpp._lib[name]
        found[name].restype, found[name].argtypes = result, arguments
    return SimpleNamespace(**found)


def windows(model: llama_cpp.Llama, template: str, examples: Path) -> np.ndarray:
    """All examples as the model reads a chat, one after another, in windows: tokens and, a step on, what follows."""
    form = Jinja2ChatFormatter(template, eos_token="", bos_token="", add_generation_prompt=False)
    rows = [json.loads(line) for line in examples.read_text("utf-8").splitlines()]
    random.Random(0).shuffle(rows)
    text = "".join(form(messages=row["messages"]).prompt for row in rows)
    tokens = np.array(model.tokenize(text.encode(), add_bos=False, special=True), dtype=np.int32)
    count = (len(tokens) - 1) // CONTEXT
    print(f"{len(rows)} examples, {len(tokens):,} tokens, {count} windows", flush=True)
    ends = count * CONTEXT
    return np.stack([tokens[:ends].reshape(count, CONTEXT), tokens[1 : ends + 1].reshape(count, CONTEXT)])


def train(source: Path, examples: Path, out: Path, layers: int, epochs: int, rate: float, most: int | None) -> None:
    c = functions()
    llama_cpp.llama_log_set(QUIET, None)
    model = llama_cpp.Llama(
        str(source), n_ctx=CONTEXT, n_batch=CONTEXT, n_ubatch=CONTEXT, use_mmap=False, type_k=0, type_v=0,
        flash_attn=False, verbose=False,
    )  # fmt: skip
    template = model.metadata["tokenizer.chat_template"]
    data, labels = windows(model, template, examples)[:, :most]
    dataset = c.ggml_opt_dataset_init(INT32, INT32, CONTEXT, CONTEXT, len(data), 1)
    for part, values in ((c.ggml_opt_dataset_data, data), (c.ggml_opt_dataset_labels, labels)):
        ctypes.memmove(c.ggml_get_data(part(dataset)), np.ascontiguousarray(values).ctypes.data, values.nbytes)
    first = int(model.metadata[f"{model.metadata['general.architecture']}.block_count"]) - layers

    @CFUNCTYPE(c_bool, c_void_p, c_void_p)
    def trainable(tensor: int, _: int) -> bool:
        found = re.match(r"blk\.(\d+)\.", c.ggml_get_name(tensor).decode())
        return found is not None and int(found[1]) >= first

    settings = AdamW(rate, 0.9, 0.999, 1e-8, 0.0, 0.0, 0.0)
    constant = ctypes.cast(c.ggml_opt_get_constant_optimizer_params, c_void_p)
    chosen, given = ctypes.cast(trainable, c_void_p), ctypes.cast(ctypes.pointer(settings), c_void_p)
    c.llama_opt_init(model.ctx, model.model, OptParams(CONTEXT, chosen, None, constant, given, 0))
    results = c.ggml_opt_result_init(), c.ggml_opt_result_init()
    for epoch in range(epochs):
        c.llama_opt_epoch(model.ctx, dataset, *results, len(data), None, None)
        loss, spread = c_double(), c_double()
        c.ggml_opt_result_loss(results[0], loss, spread)
        c.ggml_opt_result_reset(results[0])
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.value:.3f} a token", flush=True)
    c.llama_model_save_to_file(model.model, str(out).encode())
    out.with_suffix(".jinja").write_text(template, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("examples", type=Path, help="what `workbench export training` wrote, in the form chat")
    parser.add_argument("out", type=Path, help="the tuned model, a GGUF of 32 bits")
    parser.add_argument("--model", default="smollm2", help="an alias of the project")
    parser.add_argument("--layers", type=int, default=4, help="how many of the last ones are trained")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--windows", type=int, help=f"at most so many of {CONTEXT} tokens each, to try it out")
    asked = parser.parse_args()
    source = quantised(files.find(load_project().model(asked.model).settings), "f32")
    train(source, asked.examples, asked.out, asked.layers, asked.epochs, asked.rate, asked.windows)


if __name__ == "__main__":
    main()
