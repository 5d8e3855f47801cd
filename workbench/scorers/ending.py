"""Scorers of how an answer ended, and of the tool calls in which it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]

from workbench.errors import UseError
from workbench.records import Judgement
from workbench.scorers.base import Answered, passed, quote
from workbench.scorers.structure import JsonSchema
from workbench.scorers.tools import NotACallError, read_call

Reason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True)
class FinishReason:
    """The answer ended for this reason: by itself, at its limit, to call tools, or at a filter."""

    reason: Reason
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "reason"

    def __call__(self, answer: Answered) -> Judgement:
        ended = answer.output.finish_reason
        return passed(ended == self.reason, f"ended with {quote(ended)}")


@dataclass(frozen=True)
class ValidToolCalls:
    """The answer calls at least one tool, only tools that there are, and with arguments that fit their schemas."""

    tools: list[dict[str, Any]]
    """As a prompt has them: `{type: function, function: {name, parameters}}`."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "tools"

    def __post_init__(self) -> None:
        if not self.tools:
            raise UseError("tools is empty; give the tools that may be called")
        for tool in self.tools:
            function = tool.get("function")
            if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
                raise UseError("each tool has to be {type: function, function: {name, parameters}}")
            try:
                JsonSchema(function.get("parameters") or {})
            except UseError as error:
                raise UseError(f"the parameters of '{function['name']}': {error}") from None

    def __call__(self, answer: Answered) -> Judgement:
        schemas = {t["function"]["name"]: t["function"].get("parameters") or {} for t in self.tools}
        if not answer.output.tool_calls:
            return passed(False, "calls no tool")
        try:
            calls = [read_call(call) for call in answer.output.tool_calls]
        except NotACallError as error:
            return passed(False, str(error))
        for call in calls:
            if call.name not in schemas:
                return passed(False, f"there is no tool {quote(call.name)}")
            if not isinstance(call.arguments, dict):
                return passed(False, f"{call.name}: the arguments are no JSON mapping")
            fits = Draft202012Validator(schemas[call.name], registry=REGISTRY)
            if worst := best_match(fits.iter_errors(call.arguments)):
                return passed(False, f"{call.name}: {worst.json_path}: {worst.message}")
        return passed(True, "calls " + ", ".join(call.name for call in calls))
