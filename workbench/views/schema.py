"""The JSON Schema of the JSON report: made from the records that it is written from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from workbench.records import Json, Run
from workbench.stats.gates import GateResult
from workbench.store.runs import TrialRow, Usage, VariantRow
from workbench.views.model import ScorerView
from workbench.views.took import Took


@dataclass(frozen=True, slots=True)
class _Variant(VariantRow):
    usage: Usage | None
    took: Took | None


@dataclass(frozen=True, slots=True)
class _Gates:
    answer: Literal["pass", "fail", "not enough data", "unchanged"]
    results: tuple[GateResult, ...]
    notes: tuple[str, ...]
    quarantined: int
    problem: str


@dataclass(frozen=True, slots=True)
class _Report:
    """`workbench report RUN --to json`, form `workbench-report/1`."""

    schema: Literal["workbench-report/1"]
    run: Run
    reference: str | None
    quarantined: tuple[str, ...]
    variants: list[_Variant]
    scorers: list[ScorerView]
    gates: _Gates | None
    trials: list[TrialRow]


def report_schema() -> dict[str, Json]:
    """Every key stands in every report; keys of later versions may be added."""
    found: dict[str, Any] = TypeAdapter(_Report).json_schema(mode="serialization")
    return found
