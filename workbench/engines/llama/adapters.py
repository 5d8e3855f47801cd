"""LoRA adapters: GGUF files that lie on a model's weights, each with a scale.

llama.cpp sets adapters for a whole context, never for a sequence: a model with adapters is a model of its own,
with a context of its own, so no branch is ever shared between base and tuned.
Low-Rank Adaptation: Hu et al. 2021, https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.engines.llama import files, library
from workbench.errors import EngineError, ModelError
from workbench.records import Json


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's file and how strongly it counts: 0 not at all, 1 as it was trained."""

    path: Path
    scale: float

    @property
    def identity(self) -> str:
        return f"lora:{files.sha256(self.path)}*{self.scale!r}"

    @property
    def shown(self) -> str:
        return f"{self.path.name} × {self.scale:g}"


def read_adapters(settings: Mapping[str, Json]) -> tuple[Adapter, ...]:
    """The setting `lora`, `[{file, scale}, …]`; raises ModelError for a wrong entry, or a file that is no GGUF."""
    return tuple(_adapter(entry) for entry in settings.get("lora", ()))


def _adapter(entry: Json) -> Adapter:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("file"), str) or not {"file", "scale"} >= set(entry):
        raise ModelError(f"lora holds {entry!r}; write {{file: adapters/x.gguf, scale: 1}}")
    scale = entry.get("scale", 1.0)
    if not isinstance(scale, (int, float)) or isinstance(scale, bool) or not math.isfinite(scale):
        raise ModelError(f"lora: the scale of {entry['file']} is {scale!r}; it has to be a number")
    path = Path(entry["file"])
    if not path.is_file():
        raise ModelError(f"there is no adapter file {path}; give `lora` a .gguf file")
    files.check(path)
    return Adapter(path, float(scale))


def load_adapters(model: Any, adapters: Sequence[Adapter]) -> list[Any]:
    """Their handles, on a model that is loaded; raises EngineError for one that doesn't fit it, none is left then."""
    lib = library.load()
    handles: list[Any] = []
    for adapter in adapters:
        handle = lib.llama_adapter_lora_init(model, str(adapter.path).encode())
        if not handle:
            free_adapters(handles)
            raise EngineError(f"{adapter.path} is no LoRA adapter for this model: {library.explain()}")
        handles.append(handle)
    return handles


def apply_adapters(context: Any, handles: Sequence[Any], adapters: Sequence[Adapter]) -> None:
    """Sets all of them, for everything that the context evaluates from here on; raises EngineError."""
    lib, count = library.load(), len(handles)
    places = (lib.llama_adapter_lora_p_ctypes * count)(*handles)
    scales = (ctypes.c_float * count)(*(adapter.scale for adapter in adapters))
    if count and lib.llama_set_adapters_lora(context, places, count, scales) != 0:
        raise EngineError(f"the LoRA adapters can't be set: {library.explain()}")


def free_adapters(handles: Sequence[Any]) -> None:
    """To be called before their model is freed, and after the contexts that use them."""
    for handle in handles:
        library.load().llama_adapter_lora_free(handle)
