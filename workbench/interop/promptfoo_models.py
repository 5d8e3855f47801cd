"""Providers of promptfoo as models of workbench.yaml: https://www.promptfoo.dev/docs/providers/.

No key is carried over: a model names the environment variable that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.interop import promptfoo_files as files
from workbench.interop.promptfoo_tools import choice_of, tools_of
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
_PLACES = {"apiBaseUrl", "apiKeyEnvar"}
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
    sent_to: str
    """Where it is asked and with which key, where the config names that itself; empty: where its host is known."""
    prompts: tuple[str, ...] | None
    """The only prompts that it is asked, by label or id; None: all."""
    tools: tuple[Json, ...] = ()


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
    config = entry.get("config") or {}
    if not isinstance(config, dict):
        raise Left(f"the config of provider {entry['id']}")
    tools = [tool for key in ("tools", "functions") if config.get(key) for tool in tools_of(config[key], base)]
    params = _params(entry["id"], {k: v for k, v in config.items() if k not in ("tools", "functions")}, settings)
    alias = "echo" if not settings else re.sub(r"[^\w.-]+", "-", label).strip("-.") or "model"
    key = f", with the key in ${settings['api_key_env']}" if "apiKeyEnvar" in config else ""
    address = str(settings.get("base_url", "its own address"))
    sent_to = f"it is asked at {address}{key}: see that you trust it" if config.keys() & _PLACES else ""
    return Provider(label, alias, settings, params, sent_to, only, tuple(tools))


def _model(name: str) -> Mapping[str, Json]:
    if name == "echo":
        return {}
    host, _, rest = name.partition(":")
    if host == "bedrock":
        return _bedrock(name, rest)
    if host not in HOSTS:
        raise Left(f"provider {name}: no engine for '{host}'")
    way, _, model = rest.partition(":")
    if way not in WAYS:
        way, model = "chat", rest
    if not model or way == "completion":
        raise Left(f"provider {name}: only chat models")
    return {"engine": "openai", "model": model, **HOSTS[host], **({"api": "responses"} if way == "responses" else {})}


def _bedrock(name: str, rest: str) -> Mapping[str, Json]:
    model = rest.removeprefix("converse:")
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)+[\w.:-]*", model):
        raise Left(f"provider {name}: only chat models, by their id")
    return {"engine": "bedrock", "model": model}


def _params(name: str, config: Mapping[str, Json], settings: dict[str, Json]) -> dict[str, Json]:
    params: dict[str, Json] = {}
    for key, value in config.items():
        own = RENAMED.get(key, key)
        texts = own == "stop" and isinstance(value, list) and all(isinstance(text, str) for text in value)
        if own in PARAMS and (texts or isinstance(value, (int, float, str))):
            params[own] = value
        elif key == "tool_choice":
            params[key] = choice_of(value)
        elif key == "region" and settings.get("engine") == "bedrock" and isinstance(value, str):
            settings["options"] = {"region": value}
        elif key == "apiBaseUrl" and settings and isinstance(value, str):
            settings["base_url"] = value
            if "apiKeyEnvar" not in config:  # the key of a host that is known goes to no other address
                settings.pop("api_key_env", None)
        elif key == "apiKeyEnvar" and settings and isinstance(value, str):
            settings["api_key_env"] = value
        else:
            raise Left(f"'{key}' of provider {name}")
    return params
