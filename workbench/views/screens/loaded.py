"""What screens have read of runs, kept for a while: a choice on a page does not read a big run again.

The key of each part names the store, the runs, and what changes when they change: status and end, and while one is
open also the time in steps of OPEN_SECONDS. Scores that `workbench score` adds to an ended run are seen after
KEPT_SECONDS. Only frozen records are kept, shared by all sessions.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from workbench.errors import UseError
from workbench.records import CaseScores, ScoreColumns
from workbench.stats.summary import VariantSummary, summarise
from workbench.store.grouped import case_scores
from workbench.store.overview import RunHead, heads_of
from workbench.views.cases import DuplicateCases, duplicate_cases
from workbench.views.model import (
    RunView,
    ScorerView,
    load_columns,
    load_frame,
    load_scorer,
    load_took,
    scorer_names,
    side_by_side,
)
from workbench.views.screens.page import PROJECT, STORE
from workbench.views.took import Took

KEPT_SECONDS = 60
OPEN_SECONDS = 5
MOST = 24
"""Parts of each sort that are kept; of a run of 100,000 trials one takes about 10 MB."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One or several runs that a page is about."""

    view: RunView
    """Without its scorers."""
    scorers: tuple[str, ...]
    key: tuple[str, ...]
    """What all that is read of them is kept under."""


def load_shown(connection: Any, runs: Sequence[str]) -> Shown:
    """Raises UnknownName for a run."""
    key = stamp(heads_of(connection, runs))
    view = _frame(key, tuple(runs), connection)
    return Shown(view, _names(key, connection, view), key)


def stamp(heads: Iterable[RunHead]) -> tuple[str, ...]:
    """Changes when what is read of the runs may have changed."""
    where = os.environ.get(STORE) or os.environ.get(PROJECT) or os.getcwd()  # noqa: PTH109 - a key only
    now = str(time.time() // OPEN_SECONDS)
    parts = [f"{h.id} {h.status} {now if h.status in ('running', 'waiting') else h.ended}" for h in heads]
    return (where, *parts)


def with_reference(shown: Shown, reference: str | None) -> Shown:
    """The same with another reference, by its id."""
    return replace(shown, view=replace(shown.view, reference=reference)) if reference else shown


def columns(connection: Any, shown: Shown, scorer: str) -> ScoreColumns:
    """One scorer's scores, one by one. Raises UseError where its kind differs between the runs."""
    return _columns(shown.key, scorer, connection, shown.view)


def case_sums(connection: Any, shown: Shown, scorer: str) -> CaseScores:
    """One scorer's scores, added up over repeats. Raises UseError where its kind differs between the runs."""
    return _together(shown.key, scorer, connection, shown.view)


def part(connection: Any, shown: Shown, scorer: str, ranked: bool = True) -> ScorerView:
    """What one scorer found, against the reference; without ranking and power, which take time, if not `ranked`."""
    return _part(shown.key, scorer, shown.view.reference, ranked, connection, shown.view)


def what_it_took(connection: Any, shown: Shown) -> Mapping[str, Took]:
    """What the answers of each variant took, against the reference."""
    return _took(shown.key, shown.view.reference, connection, shown.view)


def near_duplicates(connection: Any, shown: Shown, run: str) -> DuplicateCases:
    """Cases of one of the runs whose inputs nearly say the same."""
    return _alike(shown.key, run, connection)


def so_far(connection: Any, run: str) -> dict[str, list[VariantSummary]]:
    """Scorer → what each variant of a run under way scored by now; added up every OPEN_SECONDS, for all windows."""
    return _so_far(stamp(heads_of(connection, [run])), run, connection)


@st.cache_resource(ttl=KEPT_SECONDS, max_entries=MOST, show_spinner=False)
def _so_far(key: tuple[str, ...], run: str, _connection: Any) -> dict[str, list[VariantSummary]]:
    found: dict[str, list[VariantSummary]] = {}
    for scorer, scores in case_scores(_connection, run).items():
        with suppress(UseError):  # infinities, which have no mean
            found[scorer] = summarise(scores)
    return found


@st.cache_resource(ttl=20 * KEPT_SECONDS, max_entries=MOST, show_spinner="Comparing the cases …")
def _alike(key: tuple[str, ...], run: str, _connection: Any) -> DuplicateCases:
    return duplicate_cases(_connection, run)


@st.cache_resource(ttl=KEPT_SECONDS, max_entries=MOST, show_spinner=False)
def _took(key: tuple[str, ...], reference: str | None, _connection: Any, _view: RunView) -> Mapping[str, Took]:
    return load_took(_connection, _view)


@st.cache_resource(ttl=KEPT_SECONDS, max_entries=MOST, show_spinner=False)
def _frame(key: tuple[str, ...], runs: tuple[str, ...], _connection: Any) -> RunView:
    return load_frame(_connection, runs)


@st.cache_resource(ttl=KEPT_SECONDS, max_entries=MOST, show_spinner=False)
def _names(key: tuple[str, ...], _connection: Any, _view: RunView) -> tuple[str, ...]:
    return tuple(scorer_names(_connection, _view))


@st.cache_resource(ttl=KEPT_SECONDS, max_entries=MOST, show_spinner="Reading the scores …")
def _columns(key: tuple[str, ...], scorer: str, _connection: Any, _view: RunView) -> ScoreColumns:
    return load_columns(_connection, _view, scorer)


@st.cache_resource(ttl=KEPT_SECONDS, max_entries=MOST, show_spinner="Computing …")
def _part(
    key: tuple[str, ...], scorer: str, reference: str | None, ranked: bool, _connection: Any, _view: RunView
) -> ScorerView:
    return load_scorer(_connection, _view, _together(key, scorer, _connection, _view), ranked=ranked)


def _together(key: tuple[str, ...], scorer: str, connection: Any, view: RunView) -> CaseScores:
    parts = [run_scores((key[0], own), run.id, scorer, connection) for own, run in zip(key[1:], view.runs, strict=True)]
    return side_by_side(parts, [v.id for v in view.variants]) if len(parts) > 1 else parts[0]


@st.cache_resource(ttl=KEPT_SECONDS, max_entries=MOST, show_spinner=False)
def run_scores(key: tuple[str, ...], run: str, scorer: str, _connection: Any) -> CaseScores:
    """One run's scores by one scorer, repeats added up; `key` is the run's stamp."""
    return case_scores(_connection, run, scorer)[scorer]
