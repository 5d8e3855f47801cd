"""Gives answers that exist already: `models: [{recorded: data/answers.jsonl}]` in a suite (`define.recorded`).

The answer comes with the request, as `answer: {"recorded": text}`; without one the request fails with kind `missing`.
Nothing is asked, and nothing is counted: no tokens, no cost, no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from workbench.engines.base import Capabilities, Requests, failed
from workbench.records import Json, Model, Output, Request

_AT_ONCE, _IDLE_SECONDS = 256, 0.2


class RecordedEngine:
    """Takes any settings: they say where the answers came from."""

    in_process = False
    identity = "recorded"
    capabilities = Capabilities(raw=True, exact=True, images=True, tools=True, params=frozenset())

    def __init__(self, model: Model) -> None:
        self._model = model

    def check_params(self, params: Mapping[str, Json]) -> None:
        """There are none: see `capabilities`."""

    def count_tokens(self, request: Request) -> int:
        return 0

    def describe(self) -> dict[str, object]:
        return {"file": self._model.settings.get("file")}

    def work(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        """Holds nothing."""

    def generate(self, requests: Requests) -> Iterator[Output]:
        while not requests.closed:
            for request in requests.take(_AT_ONCE, _IDLE_SECONDS):
                text = request.answer.get("recorded")
                if request.id in requests.cancelled():
                    yield failed(request, "cancelled", "nobody waits for this answer any more")
                elif text is None:
                    why = f"{self._model.settings.get('file')} has no answer to this case"
                    yield replace(failed(request, "missing", why), cost=0.0)
                else:
                    yield Output(request.id, str(text), prompt_tokens=0, output_tokens=0, cost=0.0)
