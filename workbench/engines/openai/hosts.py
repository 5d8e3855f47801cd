"""What the known hosts take of OpenAI's API, from their own documentation; any other address takes all.

A host that ignores a parameter in silence would give answers to another question than was asked, so what is
listed as ignored is refused before the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from urllib.parse import urlsplit

from workbench.errors import ModelError, suggest
from workbench.records import Json

OPENAI = "https://api.openai.com/v1"
LOCAL_SAMPLERS = frozenset(
    ("min_p", "mirostat", "mirostat_eta", "mirostat_tau", "repeat_penalty", "repetition_penalty", "top_k", "typical_p")
)
"""Samplers that OpenAI's own API does not have."""


@dataclass(frozen=True, slots=True)
class Host:
    """Who stands behind an address."""

    max_tokens: str = "max_tokens"
    """The name under which it takes the most tokens of an answer."""
    seeds: bool = True
    n: bool = False
    """Gives several answers to one call."""
    logprobs: int = 20
    schema: bool = True
    refused: frozenset[str] = frozenset()
    """Parameters that it refuses or ignores."""
    key_header: str | None = None
    """The header that takes the key; None: `Authorization: Bearer`."""
    batches: bool = False
    """Takes batches as OpenAI does (https://platform.openai.com/docs/guides/batch): files, then batches of
    them, at the same address. Gemini, Anthropic, Mistral, Together and OpenRouter have batches of other kinds."""
    batch_price_factor: float | None = None
    """What a batch costs, as a share of single calls, where the host says so of all its models."""


HOSTS: Mapping[str, Host] = MappingProxyType(
    {
        # https://platform.openai.com/docs/api-reference/chat/create: `seed` is deprecated there
        "openai": Host("max_completion_tokens", seeds=False, n=True, refused=LOCAL_SAMPLERS, batches=True),
        # https://learn.microsoft.com/azure/ai-foundry/openai/reference, and …/how-to/batch: "at 50% less cost than
        # global standard"
        "azure": Host(
            "max_completion_tokens",
            n=True,
            refused=LOCAL_SAMPLERS,
            key_header="api-key",
            batches=True,
            batch_price_factor=0.5,
        ),
        # https://console.groq.com/docs/openai and /docs/batch, whose discount has changed: it is not assumed
        "groq": Host(logprobs=0, refused=LOCAL_SAMPLERS | {"logit_bias"}, batches=True),
        # https://docs.mistral.ai/api: the seed has a name of its own there
        "mistral": Host(seeds=False, n=True, logprobs=0, refused=LOCAL_SAMPLERS | {"logit_bias"}),
        # https://docs.together.ai/docs/openai-api-compatibility
        "together": Host(),
        # https://ai.google.dev/gemini-api/docs/openai
        "gemini": Host(seeds=False, n=True, logprobs=0, refused=LOCAL_SAMPLERS | {"logit_bias"}),
        # https://platform.claude.com/docs/en/api/openai-sdk: what its table calls ignored
        "anthropic": Host(
            seeds=False,
            logprobs=0,
            schema=False,
            refused=LOCAL_SAMPLERS
            | {"frequency_penalty", "logit_bias", "presence_penalty", "reasoning_effort", "response_format"},
        ),
        # https://openrouter.ai/docs/api-reference/parameters
        "openrouter": Host(),
        # https://docs.ollama.com/api/openai-compatibility: what its list lacks is ignored
        "ollama": Host(refused=LOCAL_SAMPLERS | {"logit_bias"}),
        # https://lmstudio.ai/docs/developer/openai-compat/chat-completions
        "lmstudio": Host(logprobs=0, refused=LOCAL_SAMPLERS - {"top_k", "repeat_penalty"}),
        # https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
        "vllm": Host(n=True, refused=frozenset({"mirostat", "mirostat_eta", "mirostat_tau", "repeat_penalty"})),
        # https://github.com/ggml-org/llama.cpp/tree/master/tools/server
        "llama-server": Host(),
        "other": Host(batches=True),
    }
)
_NAMES = {
    "api.openai.com": "openai",
    "generativelanguage.googleapis.com": "gemini",
    "api.anthropic.com": "anthropic",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "openrouter.ai": "openrouter",
}
_ENDINGS = {".openai.azure.com": "azure", ".cognitiveservices.azure.com": "azure", ".services.ai.azure.com": "azure"}
_PORTS = {11434: "ollama", 1234: "lmstudio"}


def host_of(address: str, settings: Mapping[str, Json]) -> Host:
    """Who answers there, with what the project says of it: `server`, `batches`, `batch_price_factor`. Raises
    ModelError."""
    host = HOSTS[host_name(address, settings.get("server"))]
    factor = settings.get("batch_price_factor", host.batch_price_factor)
    if factor is not None and not (isinstance(factor, (int, float)) and 0 <= factor <= 1):
        raise ModelError(f"batch_price_factor {factor!r} is no share of a price; give a number such as 0.5")
    return replace(host, batches=bool(settings.get("batches", host.batches)), batch_price_factor=factor)


def host_name(address: str, given: str | None) -> str:
    """The host's name in the table: as the project says, else by the address. Raises ModelError."""
    if given is not None:
        if given not in HOSTS:
            raise ModelError(f"unknown server '{given}'{suggest(given, HOSTS)}")
        return given
    place = urlsplit(address)
    name = (place.hostname or "").lower()
    by_ending = next((host for ending, host in _ENDINGS.items() if name.endswith(ending)), None)
    return _NAMES.get(name) or by_ending or _PORTS.get(place.port or 0) or "other"
