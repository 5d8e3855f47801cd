"""Judging by eye: which answers are shown next, without names and in random order; what the votes say.

The queue is fixed by the seed and the same for all raters, so that they meet on the same items: pass by pass over
the shuffled cases, each case with another pair of variants, so that all pairs come equally often. Which of the two
stands left is drawn for each rater.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from workbench.errors import UseError
from workbench.records import Json, Kind, ScoreColumns, content_id
from workbench.stats.agreement import Agreement, krippendorff_alpha
from workbench.stats.pairwise import Vote
from workbench.store import runs as stored
from workbench.store.runs import TrialFilter, TrialRow, VariantRow
from workbench.store.votes import VoteKind, VoteRow

Key = tuple[str, frozenset[str]]
"""A case, and the variants whose answers are shown."""
MOST_LOOKS = 300
"""Items that are looked at in search of one that can be judged."""


@dataclass(frozen=True, slots=True)
class Item:
    """What is judged: one answer, or two in the order in which they are shown."""

    key: Key
    trials: tuple[TrialRow, ...]


def queue(variants: Sequence[str], cases: Sequence[str], kind: VoteKind, seed: int) -> Iterator[Key]:
    """All items, each once, in their order."""
    size = 2 if kind == "pair" else 1
    groups = [frozenset(group) for group in itertools.combinations(variants, size)]
    order = list(cases)
    draw = random.Random(seed)  # noqa: S311 - a random order, no secret
    draw.shuffle(groups)
    draw.shuffle(order)
    for turn in range(len(groups)):
        for place, case in enumerate(order):
            yield case, groups[(place + turn) % len(groups)]


def next_item(
    connection: Any, run: str, items: Iterator[Key], passed: Collection[Key], rater: str, seed: int = 0
) -> Item | None:
    """The first item that is not in `passed` and can be judged: all its answers are there, and no two are the same
    text. None where there is none."""
    for key in itertools.islice((key for key in items if key not in passed), MOST_LOOKS):
        trials = _shown(connection, run, key, rater, seed)
        texts = [row.output.text for row in trials if row.output is not None and not row.output.failure]
        if len(set(texts)) == len(key[1]):
            return Item(key, trials)
    return None


def _shown(connection: Any, run: str, key: Key, rater: str, seed: int) -> tuple[TrialRow, ...]:
    """The answers to show, one of each variant's repeats."""
    case, variants = key
    draw = random.Random(content_id("by-eye", [seed, case, sorted(variants)]))  # noqa: S311
    found = []
    for variant in sorted(variants):
        rows = list(stored.trial_rows(connection, run, TrialFilter((variant,), case)))
        found += [draw.choice(rows)] if rows else []
    random.Random(content_id("side", [seed, case, sorted(variants), rater])).shuffle(found)  # noqa: S311
    return tuple(found)


def key_of(vote: VoteRow) -> Key:
    return vote.case, frozenset(name for name in (vote.first_variant, vote.second_variant) if name)


def pair_votes(votes: Sequence[VoteRow], names: Mapping[str, str]) -> list[Vote]:
    """For `stats.pairwise`; players are the variants by their names."""
    return [
        Vote(
            first=names[v.first_variant],
            second=names[v.second_variant],
            winner=cast(Literal["first", "second", "tie"], v.said),
            case=v.case,
            lengths=v.lengths,
        )
        for v in votes
    ]


def rating_columns(votes: Sequence[VoteRow], variants: Sequence[VariantRow], kind: Kind) -> ScoreColumns:
    """Ratings as the scores of a scorer; several raters of one answer count like its repeats."""
    ids, cases = [v.id for v in variants], list(dict.fromkeys(v.case for v in votes))
    value = {"good": 1.0, "bad": 0.0}
    return ScoreColumns(
        scorer="by eye",
        kind=kind,
        variants=tuple(ids),
        cases=tuple(cases),
        clusters=(None,) * len(cases),
        variant=[ids.index(v.first_variant) for v in votes],
        case=[cases.index(v.case) for v in votes],
        repeat=list(range(len(votes))),
        value=[value[v.said] if v.said in value else float(v.said) for v in votes],
        missing=(0,) * len(ids),
    )


def agreement(votes: Sequence[VoteRow], kind: VoteKind) -> Agreement | None:
    """Krippendorff's alpha of the raters over the items that two of them judged; None where there is none such."""
    raters, items = list(dict.fromkeys(v.rater for v in votes)), list(dict.fromkeys(map(key_of, votes)))
    said: dict[tuple[str, Key], str] = {}
    for v in votes:
        winner = {"first": v.first_variant, "second": v.second_variant}
        said[v.rater, key_of(v)] = winner.get(v.said, v.said) if kind == "pair" else v.said
    ordered = kind == "rating" and all(value not in ("good", "bad") for value in said.values())
    table = [
        [_number(said.get((rater, item))) if ordered else said.get((rater, item)) for item in items] for rater in raters
    ]
    try:
        return krippendorff_alpha(table, "ordinal" if ordered else "nominal")
    except UseError:
        return None


def _number(said: str | None) -> float | None:
    return None if said is None else float(said)


def label_rows(
    connection: Any, run: str, votes: Sequence[VoteRow], variants: Mapping[str, VariantRow]
) -> list[dict[str, Json]]:
    """The votes as human labels, in the form of `workbench judge sample`, with the rater. They were not drawn for an
    estimate, so they have no `probability`."""
    rows = []
    for vote in votes:
        trials = [next(_trial(connection, run, t)) for t in (vote.first, vote.second) if t]
        told: dict[str, Json] = {"label": _point(vote.said)}
        for side, row in zip(("first", "second"), trials, strict=False):
            text, variant = row.output.text if row.output else "", variants[row.variant_id]
            prefix = f"{side}_" if vote.second else ""
            told |= {side if vote.second else "output": text, f"{prefix}model": variant.model}
            told |= {f"{prefix}variant": variant.label, f"{prefix}trial": row.trial_id}
        told |= {"expected": trials[0].expected, "inputs": dict(trials[0].inputs), "case": vote.case}
        rows.append({**told, "run": run, "rater": vote.rater})
    return rows


def _trial(connection: Any, run: str, trial: str) -> Iterator[TrialRow]:
    return stored.trial_rows(connection, run, TrialFilter(trial=trial, limit=1))


def _point(said: str) -> Json:
    return int(said) if said.isdigit() else said
