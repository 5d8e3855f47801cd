"""Providers of promptfoo as models of workbench.yaml: https://www.promptfoo.dev/docs/providers/.

No key is carried over: a model names the environment variable that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.interop import promptfoo_files as files
from workbench.interop.report import Left
from workbench.records import Json

HOSTS: Mapping[str, Mapping[str, Json]] = {
    "openai": {},
    "anthropic": {"base_url": "https://api.anthropic.com/v1", "api_key_env": "ANTHROPIC_API_KEY"},
    "google": {
        "base_url": "https://generativelanguage.googleapis.com/v1beta/openai",
        "api_key_env": "GEMINI_API_KEY",
    },
    "groq": {"base_url": "https://api.groq.com/openai/v1", "api_key_env": "GROQ_API_KEY"},
    "mistral": {"base_url": "https://api.mistral.ai/v1", "api_key_env": "MISTRAL_API_KEY"},
    "deepseek": {"base_url": "https://api.deepseek.com/v1", "api_key_env": "DEEPSEEK_API_KEY"},
    "openrouter": {"base_url": "https://openrouter.ai/api/v1", "api_key_env": "OPENROUTER_API_KEY"},
    "ollama": {"base_url": "http://127.0.0.1:11434/v1"},
}
"""Who speaks OpenAI's protocol, and where."""
WAYS = {"chat", "responses", "messages", "completion"}
PARAMS = {
    "temperature", "max_tokens", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "reasoning_effort"
}  # fmt: skip
RENAMED = {"max_completion_tokens": "max_tokens", "max_output_tokens": "max_tokens", "num_predict": "max_tokens"}


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as a model."""

    ref: str
    """How promptfoo names it: its label, else its id."""
    alias: str
    settings: Mapping[str, Json]
    """Of workbench.yaml; empty for `echo`, which every project has."""
    params: Mapping[str, Json]
    prompts: tuple[str, ...] | None
    """The only prompts that it is asked, by label or id; None: all."""


def provider_of(given: Json, base: Path) -> Provider:
    """Raises Left for a provider that has no counterpart."""
    if isinstance(given, str) and given.startswith("file://"):
        given = files.load(files.find(base, given)[0])
    if isinstance(given, dict) and "id" not in given and len(given) == 1:
        ((name, rest),) = given.items()
        given = {"id": name, **(rest if isinstance(rest, dict) else {})}
    entry = {"id": given} if isinstance(given, str) else given
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        raise Left("a provider that is not named")
    if odd := [name for name in entry if name not in ("id", "label", "config", "prompts", "delay", "description")]:
        raise Left(f"'{odd[0]}' of provider {entry['id']}")
    label = str(entry.get("label") or entry["id"])
    prompts = entry.get("prompts")
    only = None if prompts is None else tuple(map(str, prompts if isinstance(prompts, list) else [prompts]))
    settings = dict(_model(entry["id"]))
    params = _params(entry["id"], entry.get("config") or {}, settings)
    alias = "echo" if not settings else re.sub(r"[^\w.-]+", "-", label).strip("-.") or "model"
    return Provider(label, alias, settings, params, only)


def _model(name: str) -> Mapping[str, Json]:
    if name == "echo":
        return {}
    host, _, rest = name.partition(":")
    if host not in HOSTS:
        raise Left(f"provider {name}: no engine for '{host}'")
    way, _, model = rest.partition(":")
    if way not in WAYS:
        way, model = "chat", rest
    if not model or way == "completion":
        raise Left(f"provider {name}: only chat models")
    return {"engine": "openai", "model": model, **HOSTS[host], **({"api": "responses"} if way == "responses" else {})}


def _params(name: str, config: Json, settings: dict[str, Json]) -> dict[str, Json]:
    if not isinstance(config, dict):
        raise Left(f"the config of provider {name}")
    params: dict[str, Json] = {}
    for key, value in config.items():
        own = RENAMED.get(key, key)
        texts = own == "stop" and isinstance(value, list) and all(isinstance(text, str) for text in value)
        if own in PARAMS and (texts or isinstance(value, (int, float, str))):
            params[own] = value
        elif key == "apiBaseUrl" and settings and isinstance(value, str):
            settings["base_url"] = value
        elif key == "apiKeyEnvar" and settings and isinstance(value, str):
            settings["api_key_env"] = value
        else:
            raise Left(f"'{key}' of provider {name}")
    return params
