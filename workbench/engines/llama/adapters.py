"""LoRA adapters: GGUF files that lie on a model's weights, each with a scale, which a request may set anew.

llama.cpp sets adapters for a whole context, never for a sequence: requests with other scales are evaluated one
group after another, and share no prefix, since a cache holds what its adapters made of the tokens.
Low-Rank Adaptation: Hu et al. 2021, https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

import ctypes
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.engines.llama import files, library
from workbench.errors import EngineError, ModelError, suggest
from workbench.records import Json


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's file and how strongly it counts: 0 not at all, 1 as it was trained."""

    path: Path
    scale: float
    """Where a request says nothing else."""

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def identity(self) -> str:
        return f"lora:{files.sha256(self.path)}*{self.scale!r}"

    @property
    def shown(self) -> str:
        return f"{self.path.name} × {self.scale:g}"


def read_adapters(settings: Mapping[str, Json]) -> tuple[Adapter, ...]:
    """The setting `lora`, `[{file, scale}, …]`; raises ModelError for a wrong entry, or a file that is no GGUF."""
    adapters = tuple(_adapter(entry) for entry in settings.get("lora", ()))
    for name, count in Counter(adapter.name for adapter in adapters).items():
        if count > 1:
            raise ModelError(f"lora: two adapter files are called {name}; rename one, since requests name them so")
    return adapters


def scales_of(adapters: Sequence[Adapter], asked: Json) -> tuple[float, ...]:
    """The scales of a request: its parameter `lora`, a number for all adapters or a mapping from an adapter's name (its
    file's, without the ending) to a number; what it does not name keeps its own. Raises ModelError."""
    if asked is None:
        return tuple(adapter.scale for adapter in adapters)
    if not adapters:
        raise ModelError("parameter 'lora': the model has no adapters; give its alias `lora` in workbench.yaml")
    if not isinstance(asked, Mapping):
        return (_scale(asked, "parameter 'lora'"),) * len(adapters)
    names = [adapter.name for adapter in adapters]
    for name in asked:
        if name not in names:
            raise ModelError(f"parameter 'lora' names '{name}'{suggest(name, names)}; there are {', '.join(names)}")
    return tuple(_scale(asked.get(a.name, a.scale), f"parameter 'lora': the scale of {a.name}") for a in adapters)


def _scale(value: Json, what: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ModelError(f"{what} is {value!r}; it has to be a number")
    return float(value)


def _adapter(entry: Json) -> Adapter:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("file"), str) or not {"file", "scale"} >= set(entry):
        raise ModelError(f"lora holds {entry!r}; write {{file: adapters/x.gguf, scale: 1}}")
    scale = _scale(entry.get("scale", 1.0), f"lora: the scale of {entry['file']}")
    path = Path(entry["file"])
    if not path.is_file():
        raise ModelError(f"there is no adapter file {path}; give `lora` a .gguf file")
    files.check(path)
    return Adapter(path, scale)


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
        if lib.llama_adapter_get_alora_n_invocation_tokens(handle):
            free_adapters(handles)
            raise EngineError(f"{adapter.path} is an activated LoRA (it counts from a certain token on): not supported")
    return handles


def apply_adapters(context: Any, handles: Sequence[Any], scales: Sequence[float]) -> None:
    """Sets all of them, for everything that the context evaluates from here on; raises EngineError."""
    lib, count = library.load(), len(handles)
    places = (lib.llama_adapter_lora_p_ctypes * count)(*handles)
    if count and lib.llama_set_adapters_lora(context, places, count, (ctypes.c_float * count)(*scales)) != 0:
        raise EngineError(f"the LoRA adapters can't be set: {library.explain()}")


def free_adapters(handles: Sequence[Any]) -> None:
    """To be called before their model is freed, and after the contexts that use them."""
    for handle in handles:
        library.load().llama_adapter_lora_free(handle)
