"""What an alias may set for a local model, and of what type."""

from __future__ import annotations

from collections.abc import Mapping

from workbench.engines.llama.embed import POOLING
from workbench.errors import ModelError, suggest
from workbench.records import Json, Model

_SETTINGS: dict[str, type[str] | type[int] | type[list[Json]]] = {
    "path": str,
    "lora": list,
    "quantise": str,
    "context": int,
    "threads": int,
    "batch": int,
    "seed": int,
    "exact": bool,
    "raw": bool,
    "chat_template": str,
    "pooling": str,
}


def check_settings(model: Model) -> Mapping[str, Json]:
    """The settings, each of the right type; raises ModelError naming the model and the setting."""
    for name, value in model.settings.items():
        if name not in _SETTINGS:
            raise ModelError(f"model '{model.alias}': unknown setting '{name}'{suggest(name, _SETTINGS)}")
        wanted = _SETTINGS[name]
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise ModelError(f"model '{model.alias}': '{name}' is {value!r}; it has to be of type {wanted.__name__}")
        if name == "pooling" and value not in POOLING:
            raise ModelError(f"model '{model.alias}': 'pooling' is '{value}'; it has to be one of {', '.join(POOLING)}")
        if name in ("context", "threads", "batch") and isinstance(value, int) and value < 1:
            raise ModelError(f"model '{model.alias}': '{name}' is {value}; it has to be at least 1")
    return model.settings
