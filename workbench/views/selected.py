"""Stored variants found by what they are: `{prompt: few-shot, temperature: 0.3}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbench.define.sweep import select
from workbench.errors import UseError
from workbench.records import EMPTY, Json, Variant
from workbench.store.runs import VariantRow


def select_stored(variants: Sequence[VariantRow], wanted: Mapping[str, Json]) -> list[VariantRow]:
    """Those that `{prompt, model, label, any parameter or template input}` describes, as `define.sweep.select` finds a
    suite's. Raises SuiteError for a key that no variant has."""
    records = [
        Variant(
            v.prompt, v.revision, v.model, v.settings.get("params", EMPTY), v.settings.get("vars", EMPTY), label=v.label
        )
        for v in variants
    ]
    chosen = set(map(id, select(records, wanted)))
    return [v for v, record in zip(variants, records, strict=True) if id(record) in chosen]


def select_some(variants: Sequence[VariantRow], wanted: Mapping[str, Json]) -> tuple[str, ...]:
    """The ids of those; of all where nothing is wanted. Raises UseError where none is so."""
    found = select_stored(variants, wanted) if wanted else variants
    if not found:
        told = ", ".join(f"{name}={value}" for name, value in wanted.items())
        raise UseError(f"no variant has {told}; there are: {', '.join(v.label for v in variants)}")
    return tuple(v.id for v in found)
