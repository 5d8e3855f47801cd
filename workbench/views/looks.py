"""Where the question of a run with `until` or `race` stood at its last look, in words, by what its header says.

A look is no result: before the run has ended, its numbers are called incomplete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from workbench.records import Json, Run
from workbench.stats.paired import PairedComparison
from workbench.views import format as f

MOST_TOLD = 12
"""Variants that are named one by one."""
MOST_OUT = 3
"""… of those that are out of a race, where a line says all."""

Facts = Mapping[str, Json]
"""As of `stopping.Stopping.report`."""


def run_looks(run: Run, labels: Mapping[str, str]) -> list[str]:
    """Printable lines: how far the run is, then one a variant, the open ones first; none for a run that has no such
    question, or whose header tells only how it ended."""
    facts: Facts = run.header.get("stopping") or {}
    if "looks_made" not in facts:
        return []
    rows = _in_order(facts)
    told = _race_row if facts["rule"] == "race" else _until_row
    lines = [_how_far(facts, run.status), *(told(row, facts, labels) for row in rows[:MOST_TOLD])]
    lines += [f"… and {f.plural(len(rows) - MOST_TOLD, 'other')}"] if len(rows) > MOST_TOLD else []
    return [f.one_line(line) for line in lines]


def look_line(facts: Facts, labels: Mapping[str, str]) -> str:
    """The same of a run that goes on, in one printable line: of the open questions the one that needs most cases."""
    if not facts["looks_made"]:
        return _first(facts)
    open_rows = [row for row in _in_order(facts) if row["variant"] in facts["left"]]
    if facts["rule"] == "race":
        out = [row for row in facts["standings"] if row["verdict"] == "dropped"]
        names = ", ".join(f"{_name(row, labels)} (block {_block(row, facts)})" for row in out[:MOST_OUT])
        more = f" and {len(out) - MOST_OUT:,} more" if len(out) > MOST_OUT else ""
        parts = [f"{len(facts['left']):,} of {f.plural(len(facts['left']) + len(out), 'variant')} still in"]
        parts += [f"in front {_names(facts['best'], labels)}"] if facts["best"] else []
        parts += [f"out {names}{more}"] if out else []
    else:
        settled = len(facts["standings"]) - len(open_rows)
        parts = [f"{settled:,} settled"] if settled else []
        parts += [f"{_name(row, labels)} {_size(row, facts)}; {_needed(row, facts)}" for row in open_rows[:1]]
        parts += [f"{len(open_rows) - 1:,} more open"] if len(open_rows) > 1 else []
    made = f"look {facts['looks_made']:,} of {len(facts['looks']):,}, incomplete"
    return f.one_line(f"{made}: {' · '.join(parts) or 'nothing is scored yet'}")


def _how_far(facts: Facts, status: str) -> str:
    made, looks, cases = facts["looks_made"], facts["looks"], f.plural(facts["cases"], "case")
    if not made:
        return _first(facts)
    told = f"look {made:,} of {len(looks):,}, after {facts['cases_asked']:,} of {cases}"
    if status == "complete":
        return f"ended at {told}, {'settled' if facts['settled'] else 'not settled'}{_sure(facts)}"
    then = f", the next after {looks[made]:,}" if made < len(looks) and not facts["settled"] else ""
    return f"{told}{then}{_sure(facts)}; a look is no result: incomplete, the run is {status}"


def _first(facts: Facts) -> str:
    looks, cases = facts["looks"], f.plural(facts["cases"], "case")
    return f"no look yet; the first of {len(looks):,} after {looks[0]:,} of {cases}"


def _sure(facts: Facts) -> str:
    """What the intervals of `until` are; a race has none."""
    return "" if facts["rule"] == "race" else f" ({100 * facts['confidence']:g} % intervals that hold over all looks)"


def _in_order(facts: Facts) -> list[Mapping[str, Json]]:
    """The open ones first, of them those that need most cases."""
    rows, left = facts["standings"], set(facts["left"])
    return sorted(rows, key=lambda row: (row["variant"] not in left, -(row["cases_needed"] or math.inf)))


def _until_row(row: Mapping[str, Json], facts: Facts, labels: Mapping[str, str]) -> str:
    name = f"{_name(row, labels)}: {_size(row, facts)} to {_names([row['against']], labels)}"
    if row["variant"] in facts["left"]:
        return f"{name}; open: {_needed(row, facts)}"
    within = f"they differ by less than {_margin(facts)}"
    told = within if row["verdict"] == "equivalent" else row["verdict"]
    return f"{name}; settled after {f.plural(row['cases'], 'case')}: {told}"


def _race_row(row: Mapping[str, Json], facts: Facts, labels: Mapping[str, str]) -> str:
    size = f"{_size(row, facts)} to {_names([row['against']], labels)}"
    if row["verdict"] != "dropped":
        return f"{_name(row, labels)}: still in, {size}; {_needed(row, facts)}"
    others = "" if facts["keep"] == 1 else f", and {facts['keep']:,} are proven better"
    when = f"block {_block(row, facts)}, after {f.plural(row['cases'], 'case')}"
    return f"{_name(row, labels)}: out since {when}: proven worse, {size}{others}"


def _needed(row: Mapping[str, Json], facts: Facts) -> str:
    """How many cases would settle it, by the measured variance; or why that can't be said."""
    needed, cases, size = row["cases_needed"], facts["cases"], f"a true difference of {_margin(facts)}"
    if needed is None:
        return str(row["why"])
    if needed <= row["pairs"]:
        return f"{size} would most likely have shown by now"
    if needed <= cases:
        return f"about {needed:,} of {f.plural(cases, 'case')} would show {size}"
    return f"all {f.plural(cases, 'case')} are most likely too few to show {size}, about {needed:,} are needed"


def _size(row: Mapping[str, Json], facts: Facts) -> str:
    """The difference, with its interval where there is one."""
    bounds = row["interval"]
    paired = PairedComparison(
        row["variant"], row["against"], facts["kind"], 0.0, facts["confidence"], 1, row["difference"],
        None if bounds is None else (bounds[0], bounds[1]),
    )  # fmt: skip
    size = f.difference(paired).removesuffix(" [?]")
    return size if facts["kind"] == "number" or row["difference"] is None else f"{size} points"


def _margin(facts: Facts) -> str:
    margin = facts["margin"] if facts["rule"] == "race" else facts["smaller_than"]
    if facts["kind"] == "number":
        return f"{margin:g}"
    points = f"{100 * margin:g}"
    return f"{points} point{'' if points == '1' else 's'}"


def _block(row: Mapping[str, Json], facts: Facts) -> str:
    return f"{math.ceil(row['cases'] / facts['block']):,}"


def _name(row: Mapping[str, Json], labels: Mapping[str, str]) -> str:
    return _names([row["variant"]], labels)


def _names(variants: Sequence[str], labels: Mapping[str, str]) -> str:
    told = [labels.get(variant, variant) for variant in variants[:MOST_OUT]]
    return ", ".join(told) + (f" and {len(variants) - MOST_OUT:,} more" if len(variants) > MOST_OUT else "")
