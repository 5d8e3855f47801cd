"""A LangChain Runnable answers: a chat model, or a chain.

    engine: langchain
    path: chains.py:chain        # the Runnable, or a function without arguments that makes one
    options: {input: dict}       # messages, dict or text: what it takes; default: what its type says

A chain gets the prompt's messages as LangChain's; one that takes a dict, as a prompt template does, gets
`{"messages": […]}`; `text` is the last user message alone. It gives back a message or a text. A chat model
is bound to the sampling parameters; a chain takes those that are configurable fields of it, no others.
Further settings: `engines.calls`.

Nothing is traced to LangSmith, whatever the environment says: what is measured here stays here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, get_origin

from workbench.engines.calls import Answer, BadAnswerError, CallEngine
from workbench.errors import ModelError, suggest
from workbench.records import Json, Model, Request

_NO_TRACING = {
    "LANGSMITH_TRACING": "false",
    "LANGSMITH_TRACING_V2": "false",
    "LANGCHAIN_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGCHAIN_HANDLER": "",
}
_INPUTS = ("messages", "dict", "text")
_FINISH = {
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
}
"""The providers' words for why an answer ended, in small letters; all others are `stop`."""


class LangChainEngine(CallEngine):
    """Raises ModelError where langchain-core is missing or what is named is no Runnable."""

    options = ("input",)

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        _langchain()
        from langchain_core.language_models import BaseChatModel

        self._runnable = _made(self._source)
        inner = self._runnable
        while hasattr(inner, "bound"):  # with_config, with_retry and bind wrap it
            inner = inner.bound
        self._is_model = isinstance(inner, BaseChatModel)
        self._fields = {field.id for field in self._runnable.config_specs}
        self._input = model.settings.get("input") or ("dict" if _takes_dict(self._runnable) else "messages")
        if self._input not in _INPUTS:
            raise ModelError(f"model '{model.alias}': unknown input '{self._input}'{suggest(self._input, _INPUTS)}")

    @classmethod
    def preview(cls, model: Model) -> dict[str, object]:
        _langchain()
        return super().preview(model)

    def check_params(self, params: Mapping[str, Json]) -> None:
        for name in () if self._is_model else sorted(params.keys() - self._fields):
            raise ModelError(
                f"{self._source.target} is a chain without a configurable field '{name}'; set it in the chain, "
                f"and leave it out here: {{use: {self._model.alias}, without: [{name}]}}"
            )

    def answer(self, request: Request) -> Answer:
        from langchain_core.messages import convert_to_messages
        from langsmith import tracing_context

        asked: Any = convert_to_messages([message.to_json() for message in request.messages])
        if self._input == "dict":
            asked = {"messages": asked}
        elif self._input == "text":
            asked = next((m.text for m in reversed(request.messages) if m.role == "user"), "")
        runnable, params = self._runnable, dict(request.params)
        if self._is_model and params:
            if isinstance(params.get("stop"), str):
                params["stop"] = [params["stop"]]
            runnable, params = runnable.bind(**params), {}
        fields = {name: value for name, value in params.items() if name in self._fields}
        with tracing_context(enabled=False):
            return _answer(runnable.invoke(asked, {"configurable": fields}))


def _langchain() -> None:
    """Turns tracing off, which must come before the import, and makes sure that there is LangChain."""
    os.environ.update(_NO_TRACING)
    try:
        import langchain_core  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "the engine 'langchain' needs langchain-core: pip install 'prompt-workbench[langchain]'"
        ) from error


def _made(source: Any) -> Any:
    """The Runnable that is named, or that the function of that name makes."""
    from langchain_core.runnables import Runnable

    thing = source.load()
    if not isinstance(thing, Runnable) and callable(thing):
        try:
            thing = thing()
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise ModelError(source.told(error)) from error
    if not isinstance(thing, Runnable):
        raise ModelError(
            f"{source.target} is of type {type(thing).__name__}; it has to be a LangChain Runnable, "
            "or a function without arguments that makes one"
        )
    return thing


def _takes_dict(runnable: Any) -> bool:
    try:
        kind = runnable.InputType
    except TypeError:  # LangChain's way to say that it can't tell
        return False
    return (get_origin(kind) or kind) is dict


def _answer(given: Any) -> Answer:
    from langchain_core.messages import BaseMessage

    if isinstance(given, str):
        return Answer(str(given))
    if not isinstance(given, BaseMessage):
        raise BadAnswerError(f"the chain gave {given!r:.80}; it has to end in a message or a text")
    blocks = [given.content] if isinstance(given.content, str) else given.content
    texts = [block if isinstance(block, str) else block["text"] for block in blocks if _is_text(block)]
    usage, told = getattr(given, "usage_metadata", None) or {}, given.response_metadata
    reason = str(told.get("finish_reason") or told.get("stop_reason") or "stop").lower()
    finish = _FINISH.get(reason, "stop")
    return Answer("".join(texts), finish, usage.get("input_tokens"), usage.get("output_tokens"))


def _is_text(block: Any) -> bool:
    """Not a model's thoughts, images or tool calls."""
    return isinstance(block, str) or block.get("type") == "text"
