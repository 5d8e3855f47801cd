"""Judge by eye: answers without the names of who gave them, judged with keys; what the votes say; where they go.

Names are shown only below "Results", which starts closed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import streamlit as st

from workbench.define.labels import Change, apply_change, merge_labels, propose_expected
from workbench.errors import UseError, WorkbenchError
from workbench.records import Json, Run
from workbench.stats.length import controlled_rates
from workbench.stats.pairwise import bradley_terry, win_rates
from workbench.stats.summary import summarise
from workbench.store import runs as stored
from workbench.store.runs import TrialRow, VariantRow
from workbench.store.votes import VoteKind, VoteRow, keep_vote, list_votes, take_back
from workbench.views import blind
from workbench.views import format as f
from workbench.views.screens.page import (
    choose,
    errors_shown,
    exports,
    go_to,
    literal,
    open_database,
    open_project,
    open_store,
)
from workbench.views.votes import at_equal_length

MOST_RUNS = 300
OUTPUT_CHARS = 8_000
SCALES: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "pairs": (("first", "The first is better", "1"), ("second", "The second is better", "2"), ("tie", "A tie", "0")),
    "good or bad": (("good", "Good", "1"), ("bad", "Bad", "0")),
    "1 to 5": tuple((str(n), str(n), str(n)) for n in range(1, 6)),
}
"""What is asked → (what is stored, the button, its key)."""
SKIP_KEY, BACK_KEY = "space", "u"
SHOWN = "judged item"
"""In the session: the trials that wait for a judgement. While a page is brought up to date the browser holds the
buttons of the last item, too, and a key presses both: what is not shown any more is not judged again."""


def show() -> None:
    """The page."""
    st.title("Judge by eye", anchor=False)
    with errors_shown():
        if wanted := _wanted():
            run, asked, rater = wanted
            _judge(run.id, asked, rater)
            _results(run.id, asked)


def _wanted() -> tuple[Run, str, str] | None:
    """The run, what is asked and who is asked; None where nothing can be judged, which is said."""
    with open_store() as connection:
        listed = stored.list_runs(connection, limit=MOST_RUNS)
        if not listed:
            st.info("No run yet. Start one on the screen Sweep, or in a terminal: `workbench run SUITE`.")
            return None
        run, asked, rater = _choices(connection, listed)
        if not rater:
            st.info("Type your name to begin: votes are kept by name, and two people's agreement is shown.")
            return None
        if asked == "pairs" and len(stored.run_variants(connection, run.id)) < 2:
            st.info("This run has one variant, so there is nothing to compare; rate its answers instead.")
            return None
    return run, asked, rater


def _choices(connection: Any, listed: list[Run]) -> tuple[Run, str, str]:
    left, middle, right = st.columns([3, 1, 1])
    wanted = st.query_params.get("run")
    if wanted and wanted not in {run.id for run in listed}:
        with errors_shown():
            listed = [*listed, stored.get_run(connection, wanted)]
            st.query_params["run"] = listed[-1].id
    by_id = {run.id: run for run in listed}
    titles = {r.id: f.one_line(f"{r.suite} · {r.started[:16].replace('T', ' ')} UTC · {r.status}") for r in listed}
    with left:
        run = by_id[choose("Run", "run", titles, listed[0].id)]
    with middle:
        asked = choose("What is asked", "ask", {name: name for name in SCALES}, "pairs")
    st.session_state["rater"] = st.query_params.get("rater", "")
    with right:
        rater = st.text_input(
            "Your name", key="rater", on_change=lambda: go_to("rater", st.session_state["rater"]), max_chars=60
        )
    return run, asked, " ".join(rater.split())


def _seed() -> int:
    wanted = st.query_params.get("seed", "0")
    return int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 9 else 0


@st.fragment
def _judge(run: str, asked: str, rater: str) -> None:
    """The next item and its buttons."""
    kind: VoteKind = "pair" if asked == "pairs" else "rating"
    with errors_shown(), open_store() as connection:
        votes = list_votes(connection, run, kind)
        own = {blind.key_of(v) for v in votes if v.rater == rater}
        skipped: set[blind.Key] = st.session_state.setdefault(f"skipped {run} {kind} {rater}", set())
        variants, aside = stored.run_variants(connection, run), stored.quarantined_cases(connection, [run])
        cases = [case for case in stored.run_cases(connection, run) if case not in aside.get(run, ())]
        seed = _seed()
        items = blind.queue([v.id for v in variants], cases, kind, seed)
        item = blind.next_item(connection, run, items, own | skipped, rater, seed)
        judged = f"You have judged {len(own):,}" + (f" and skipped {len(skipped):,}." if skipped else ".")
        if item is None:
            st.caption(judged)
            st.success("Nothing is left to judge here: all that differs has your vote, or was skipped.")
            if skipped:
                st.button("Show what was skipped", on_click=skipped.clear)
            _back(run, kind, rater)
            return
        _shown(item)
        _buttons(run, asked, rater, item, skipped)
        st.caption(judged)
        if kind == "rating":
            _expected(run, item.trials[0])


def _shown(item: blind.Item) -> None:
    row = item.trials[0]
    asked = {name: value for name, value in row.inputs.items() if row.expected is None or value != row.expected}
    _block("\n".join(f"{f.one_line(name)}: {_text(value)}" for name, value in asked.items()))
    if row.expected is not None:
        with st.expander("Expected answer"):
            _block(_text(row.expected))
    names = ("First", "Second") if len(item.trials) > 1 else ("Answer",)
    for place, name, trial in zip(st.columns(len(item.trials)), names, item.trials, strict=True):
        with place.container(border=True):
            st.markdown(f"**{name}**")
            _block(trial.output.text if trial.output else "")


def _buttons(run: str, asked: str, rater: str, item: blind.Item, skipped: set[blind.Key]) -> None:
    """Keys hold the item, so that no button keeps the focus, where a space would press it again."""
    trials = tuple(row.trial_id for row in item.trials)
    here = st.session_state[SHOWN] = " ".join(trials)
    with st.container(horizontal=True):
        for said, label, key in SCALES[asked]:
            st.button(label, key=f"{said} {here}", shortcut=key, on_click=_vote, args=(run, rater, trials, said))
        st.button("Skip", key=f"skip {here}", shortcut=SKIP_KEY, on_click=_skip, args=(skipped, item.key, here))
        _back(run, "pair" if asked == "pairs" else "rating", rater)


def _back(run: str, kind: VoteKind, rater: str) -> None:
    st.button("Take back", key="back", shortcut=BACK_KEY, type="tertiary", on_click=_undo, args=(run, kind, rater))


def _vote(run: str, rater: str, trials: tuple[str, ...], said: str) -> None:
    if not _take_shown(" ".join(trials)):
        return
    with errors_shown(), closing(open_database()) as database, database.write() as connection:
        keep_vote(connection, run, rater, trials, said)


def _skip(skipped: set[blind.Key], key: blind.Key, here: str) -> None:
    if _take_shown(here):
        skipped.add(key)


def _take_shown(here: str) -> bool:
    """Whether this item still waits for a judgement; it does not after."""
    waits = bool(st.session_state.get(SHOWN) == here)
    if waits:
        st.session_state[SHOWN] = ""
    return waits


def _undo(run: str, kind: VoteKind, rater: str) -> None:
    with errors_shown(), closing(open_database()) as database, database.write() as connection:
        take_back(connection, run, rater, kind)


def _expected(run: str, row: TrialRow) -> None:
    """The answer as the case's expected one, after a look at what would change."""
    with st.expander("Use this answer as the expected one"), errors_shown():
        with open_store() as connection:
            suite = str(stored.get_run(connection, run).header.get("suite") or "")
        project = open_project()
        change = propose_expected(project, suite, row.case_id, row.output.text.strip() if row.output else "")
        if change.before == change.after:
            st.caption("It is the expected answer already.")
            return
        place = f"{change.file}:{change.line}"
        diff = difflib.unified_diff([change.before], [change.after], place, place, lineterm="")
        _block("\n".join(diff))
        st.button("Write it", key=f"write {row.trial_id}", on_click=_write, args=(change,))
    if message := st.session_state.pop("judge said", None):
        (st.error if message[0] == "error" else st.success)(literal(message[1]))


def _write(change: Change) -> None:
    try:
        apply_change(open_project(), change)
        st.session_state["judge said"] = ("ok", f"{change.file}:{change.line} is written")
    except WorkbenchError as error:
        st.session_state["judge said"] = ("error", str(error))


@st.fragment
def _results(run: str, asked: str) -> None:
    """Who won; closed at first, since it names what is judged."""
    kind: VoteKind = "pair" if asked == "pairs" else "rating"
    if not st.toggle("Results (they name the variants)", key=f"results {run}"):
        return
    with errors_shown(), open_store() as connection:
        variants = {v.id: v for v in stored.run_variants(connection, run)}
        votes = [v for v in list_votes(connection, run, kind) if kind == "pair" or v.said in _sayings(asked)]
        if not votes:
            st.info("No vote yet.")
            return
        aside = f.left_out(len(stored.quarantined_cases(connection, [run]).get(run, ())), "; ")
        st.caption(f"{f.plural(len(votes), 'vote')} by {f.plural(len({v.rater for v in votes}), 'rater')}{aside}.")
        rows = _pair_rows(votes, variants) if kind == "pair" else _rating_rows(votes, variants, asked)
        st.dataframe(rows, hide_index=True, width="stretch")
        with st.container(horizontal=True):
            exports(lambda: rows, f"{run} by eye", "Ranking")
            exports(lambda: [_vote_row(vote, variants) for vote in votes], f"{run} votes", "Votes")
        _agreement(votes, kind)
        st.button("Write as human labels", key="labels", on_click=_labels, args=(run, kind))
    if message := st.session_state.pop("labels said", None):
        (st.error if message[0] == "error" else st.success)(literal(message[1]))


def _vote_row(vote: VoteRow, variants: Mapping[str, VariantRow]) -> dict[str, str]:
    """A vote for a file; the labels that other commands read are written by the button below."""
    told = {"rater": vote.rater, "case": vote.case, "said": vote.said, "first": variants[vote.first_variant].label}
    return told | ({"second": variants[vote.second_variant].label} if vote.second_variant else {})


def _sayings(asked: str) -> set[str]:
    return {said for said, _, _ in SCALES[asked]}


def _pair_rows(votes: Sequence[VoteRow], variants: Mapping[str, VariantRow]) -> list[dict[str, str]]:
    """Each variant's win rate, and its strength by Bradley and Terry where it has one."""
    labels = {v.id: f.one_line(v.label) for v in variants.values()}
    cast = blind.pair_votes(votes, labels)
    rates = sorted(win_rates(cast), key=lambda rate: -rate.rate)
    even = {rate.player: at_equal_length(rate) for rate in controlled_rates(cast)}
    try:
        reference = next(name for name in labels.values() if name in {r.player for r in rates})
        strengths = {s.player: s for s in bradley_terry(cast, reference).players}
    except UseError as error:
        st.caption(f"No Bradley–Terry strengths yet: {literal(str(error))}")
        strengths = {}
    rows = []
    for rate in rates:
        row = {
            "variant": rate.player,
            "win rate, %": f"{f.percent(rate.rate)} {f.interval(rate.interval, 'pass') or '[?]'}",
            "at equal length": even.get(rate.player, f.NONE),
            "won / lost / tied": f"{rate.wins} / {rate.losses} / {rate.ties}",
        }
        if strengths:
            s = strengths[rate.player]
            reference_row = s.player == reference
            row["strength"] = "reference" if reference_row else f"{f.number(s.value, s.error)} {_bounds(s.interval)}"
        rows.append(row)
    return rows


def _bounds(interval: tuple[float, float]) -> str:
    return f.interval(interval, "number")


def _rating_rows(
    votes: Sequence[VoteRow], variants: Mapping[str, VariantRow], asked: str
) -> list[dict[str, str | int]]:
    columns = blind.rating_columns(votes, list(variants.values()), "pass" if asked == "good or bad" else "number")
    return [
        {
            "variant": f.one_line(variants[s.variant].label),
            "mean" if asked != "good or bad" else "good": f.estimate(s),
            "cases": s.cases,
            "ratings": s.scores,
        }
        for s in summarise(columns)
    ]


def _agreement(votes: Sequence[VoteRow], kind: VoteKind) -> None:
    found = blind.agreement(votes, kind)
    if found is None:
        st.caption("Agreement is shown once two people have judged the same item.")
    elif found.value is None:
        st.caption(f"Agreement: {found.coefficient} can't be told: {found.why}.")
    else:
        bounds = f" {f.interval(found.interval, 'number')}" if found.interval else ""
        st.caption(
            f"Agreement: {found.coefficient} {f.number(found.value, 0.01)}{bounds} on {f.plural(found.items, 'item')} "
            f"that two have judged (1 is perfect, 0 is chance)."
        )


def _labels(run: str, kind: VoteKind) -> None:
    try:
        with open_store() as connection:
            variants = {v.id: v for v in stored.run_variants(connection, run)}
            rows = blind.label_rows(connection, run, list_votes(connection, run, kind), variants)
        shown = merge_labels(open_project(), f"{run}-{kind}s", rows)
        st.session_state["labels said"] = ("ok", f"{f.plural(len(rows), 'label')} written to {shown}")
    except WorkbenchError as error:
        st.session_state["labels said"] = ("error", str(error))


def _block(text: str) -> None:
    st.code(f"\n{f.printable(f.shorten(text, OUTPUT_CHARS))}\n", language=None, wrap_lines=True)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else str(value)
