"""A real GGUF of a few kilobytes: one layer of random weights, attention or a state space (Mamba), and a
vocabulary of bytes.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, CONTEXT = 32, 128
INNER, STATE, KERNEL, RANK = 2 * WIDTH, 16, 4, 2
"""Of the recurrent model."""
SPECIAL = ("<|start|>", "<|end|>")
CHATML = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


def write_gguf(
    path: Path, template: str | None = CHATML, *, add_bos: bool = False, seed: int = 0, recurrent: bool = False
) -> Path:
    """Writes the model; `seed` makes its weights, so that two files can differ."""
    random = np.random.default_rng(seed)
    tokens = _tokens()
    shapes = _recurrent_shapes() if recurrent else _attention_shapes()
    shapes |= {"token_embd.weight": (len(tokens), WIDTH), "output_norm.weight": (WIDTH,)}
    weights = {name: random.normal(0, 0.5, shape).astype("<f4") for name, shape in shapes.items()}
    if recurrent:  # a state that decays, as a trained one does
        weights["blk.0.ssm_a"] = -np.abs(weights["blk.0.ssm_a"])
    entries = _metadata(tokens, template, add_bos, "mamba" if recurrent else "llama")
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(weights), len(entries))
    head += b"".join(_text(key) + value for key, value in entries.items())
    offset = 0
    for name, weight in weights.items():
        shape = weight.shape[::-1]
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        offset += weight.nbytes
    data = b"".join(weight.tobytes() for weight in weights.values())
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)
    return path


def _tokens() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, one merged pair, and the special tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))] + ["he", *SPECIAL]


def _attention_shapes() -> dict[str, tuple[int, ...]]:
    block = {f"attn_{part}": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")}
    block |= {f"ffn_{part}": (WIDTH, WIDTH) for part in ("gate", "down", "up")}
    shapes: dict[str, tuple[int, ...]] = {f"blk.0.{name}.weight": shape for name, shape in block.items()}
    shapes |= {f"blk.0.{name}.weight": (WIDTH,) for name in ("attn_norm", "ffn_norm")}
    return shapes


def _recurrent_shapes() -> dict[str, tuple[int, ...]]:
    return {
        "blk.0.attn_norm.weight": (WIDTH,),
        "blk.0.ssm_in.weight": (2 * INNER, WIDTH),
        "blk.0.ssm_conv1d.weight": (INNER, KERNEL),
        "blk.0.ssm_conv1d.bias": (INNER,),
        "blk.0.ssm_x.weight": (RANK + 2 * STATE, INNER),
        "blk.0.ssm_dt.weight": (INNER, RANK),
        "blk.0.ssm_dt.bias": (INNER,),
        "blk.0.ssm_a": (INNER, STATE),
        "blk.0.ssm_d": (INNER,),
        "blk.0.ssm_out.weight": (WIDTH, INNER),
    }


def _metadata(tokens: list[str], template: str | None, add_bos: bool, architecture: str) -> dict[str, bytes]:
    numbers = {"context_length": CONTEXT, "embedding_length": WIDTH, "block_count": 1, "vocab_size": len(tokens)}
    if architecture == "mamba":
        numbers |= {"ssm.conv_kernel": KERNEL, "ssm.inner_size": INNER, "ssm.state_size": STATE}
        numbers |= {"ssm.time_step_rank": RANK, "attention.head_count": 0, "feed_forward_length": 0}
    else:
        numbers |= {"attention.head_count": 2, "attention.head_count_kv": 2, "rope.dimension_count": WIDTH // 2}
        numbers |= {"feed_forward_length": WIDTH}
    entries = {
        "general.architecture": _value(architecture),
        "general.name": _value("Tiny"),
        "general.license": _value("cc0-1.0"),
        "general.file_type": struct.pack("<II", _U32, 0),
        f"{architecture}.attention.layer_norm_rms_epsilon": struct.pack("<If", _F32, 1e-5),
        "tokenizer.ggml.model": _value("gpt2"),
        "tokenizer.ggml.pre": _value("gpt-2"),
        "tokenizer.ggml.tokens": _array(_STRING, [_text(token) for token in tokens]),
        "tokenizer.ggml.token_type": _array(
            _I32, [struct.pack("<i", 3 if token in SPECIAL else 1) for token in tokens]
        ),
        "tokenizer.ggml.merges": _array(_STRING, [_text("h e")]),
        "tokenizer.ggml.bos_token_id": struct.pack("<II", _U32, tokens.index(SPECIAL[0])),
        "tokenizer.ggml.eos_token_id": struct.pack("<II", _U32, tokens.index(SPECIAL[1])),
        "tokenizer.ggml.add_bos_token": struct.pack("<I?", _BOOL, add_bos),
    }
    entries |= {f"{architecture}.{name}": struct.pack("<II", _U32, number) for name, number in numbers.items()}
    if template is not None:
        entries["tokenizer.chat_template"] = _value(template)
    return entries


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(text: str) -> bytes:
    return struct.pack("<I", _STRING) + _text(text)


def _array(kind: int, items: list[Any]) -> bytes:
    return struct.pack("<IIQ", _ARRAY, kind, len(items)) + b"".join(items)
