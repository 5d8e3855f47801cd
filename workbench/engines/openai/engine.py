"""The engine: settings checked, then requests to outputs; see `workbench.engines.openai`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, cast

from workbench.engines.base import BatchHost, Capabilities
from workbench.engines.openai import chat, embeddings, responses
from workbench.engines.openai.batch import open_host
from workbench.engines.openai.client import Place
from workbench.engines.openai.hosted import HostedEngine, checked_limits
from workbench.engines.openai.hosts import host_of
from workbench.engines.openai.keys import address, read_key
from workbench.engines.openai.session import Plan
from workbench.engines.openai.wire import Form
from workbench.errors import ModelError, suggest
from workbench.records import Json, Model

_SETTINGS = (
    "model", "base_url", "api_key_env", "api_version", "api", "server", "seed", "stream", "batches",
    "batch_price_factor",
)  # fmt: skip
_FORMS = {"chat": cast(Form, chat), "responses": cast(Form, responses), "embeddings": cast(Form, embeddings)}
_OURS = {"model": "models", "messages": "the prompt", "input": "the prompt", "n": "repeats"}
_OURS |= {"stream": "the model's option `stream`", "tools": "the prompt", "logprobs": "the suite's `logprobs`"}
_OURS |= {"top_logprobs": "the suite's `logprobs`"}
"""Fields of a call that are no sampling parameters, and what sets them."""


class OpenAIEngine(HostedEngine):
    """One model at one address. Raises ModelError for wrong settings or a missing key."""

    def __init__(self, model: Model) -> None:
        limits = checked_limits(model, _SETTINGS)
        super().__init__(_plan(model, limits), limits)
        host, form = self._plan.host, self._plan.place.form
        embeds = form is _FORMS["embeddings"]
        self.capabilities = Capabilities(
            chat=not embeds,
            seeds=host.seeds,
            logprobs=0 if embeds else host.logprobs,
            schema=host.schema and not embeds,
            tools=not embeds,
            images=not embeds,
            embeddings=embeds,
            params=None,
        )
        self._refused = host.refused | form.REFUSED

    @property
    def identity(self) -> str:
        form = self._plan.place.form
        return f"openai:{self.name}@{self.address}{'' if form is _FORMS['chat'] else form.PATH}"

    def check_params(self, params: Mapping[str, Json]) -> None:
        """Refuses what is no parameter, and what the host is known not to take; the rest is the server's to say."""
        for name in sorted(params):
            if name in _OURS:
                raise ModelError(f"'{name}' is no sampling parameter; it is set by {_OURS[name]}")
            if name in self._refused:
                raise ModelError(
                    f"'{name}' is not taken by {self.address} (model '{self.name}'), which would ignore or refuse it; "
                    "leave it out for this model, as with `without: [" + name + "]`"
                )

    def open_batches(self) -> AbstractContextManager[BatchHost]:
        """See `engines.base.Batching`."""
        if not self._plan.host.batches:
            raise ModelError(
                f"{self.address} (model '{self.name}') takes no batches in OpenAI's form, as far as is known; where it "
                "does (POST /files, then /batches), say so in workbench.yaml: options: {batches: true}"
            )
        return open_host(self._plan)


def _plan(model: Model, limits: Mapping[str, Any]) -> Plan:
    settings, where = model.settings, address(model)
    api = str(settings.get("api", "chat"))
    if api not in _FORMS:
        raise ModelError(f"model '{model.alias}': unknown api '{api}'{suggest(api, _FORMS)}")
    host = host_of(where, settings)
    seeds = bool(settings.get("seed", host.seeds)) and api == "chat"
    host = replace(host, seeds=seeds, n=host.n and api == "chat")
    place = Place(
        where, read_key(model), _FORMS[api], float(limits["timeout"]), host.key_header, settings.get("api_version")
    )
    return Plan(place, str(settings["model"]), host, model.price, int(limits["retries"]), bool(settings.get("stream")))
