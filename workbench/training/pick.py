"""Which answers of a run are worth learning from, and which cases must not be learnt.

Cases are parted before answers are looked at, by a hash, so that a case stays on its side whatever others come or go.
What belongs together (a cluster, inputs that nearly say the same) stays on one side.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from workbench.define.held_out import case_key
from workbench.define.prompt import parse_prompt
from workbench.errors import PromptError, UnknownName, UseError
from workbench.records import Case, Json, Kind, Run, canonical
from workbench.stats.cases import Groups, near_duplicates
from workbench.store import prompts as revisions
from workbench.store import runs as stored
from workbench.store.casequeries import CaseRow, case_rows, said
from workbench.store.runs import TrialRow, VariantRow
from workbench.store.votes import VoteRow, list_votes

EXPECTED, VOTES = "expected", "votes"
"""Sources of answers beside scorers."""


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn: messages, the answer wanted, and for preferences one that is not."""

    case: str
    messages: Sequence[Json]
    """`{"role", "content"}` each, as they were sent; one of the role `raw` for text without a template."""
    answer: Json
    """`{"content"}` or `{"content", "tool_calls"}`."""
    worse: Json = None
    tools: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for."""

    answers: str
    """A scorer, whose passes are good answers; `expected`, the cases' own; `votes`, people's of two answers."""
    pairs: bool = False
    """A worse answer beside each."""
    least: float | None = None
    most: float | None = None
    """What a good answer is given at least, and at most, by a scorer of fractions or numbers."""
    variants: frozenset[str] = frozenset()
    """Ids of the variants whose answers are taken."""
    asked_as: str | None = None
    """The variant whose messages the examples have; None: those that each answer was given to."""
    hold_out: float = 0.3
    """The share of cases to hold out, about."""


@dataclass(frozen=True, slots=True)
class Picked:
    """Examples, and on which side each case stands."""

    examples: list[Example]
    inputs: tuple[str, ...]
    """By which cases are known again."""
    trained: dict[str, str]
    """Case → key, of the cases with an example."""
    passed_over: dict[str, str]
    """… and of the others on the side of training."""
    held_out: int
    left: Counter[str] = field(default_factory=Counter)
    """Why cases of the side of training gave no example."""


def pick_examples(connection: Any, run: str, wanted: Wanted) -> Picked:
    """The examples of a run, by case. Raises UnknownName for a scorer that the run has not, UseError for what can't be
    asked of it."""
    kinds = dict(stored.run_scorers(connection, run))
    _check(wanted, kinds)
    variants = {v.id: v for v in stored.run_variants(connection, run)}
    shown = [variants[wanted.asked_as]] if wanted.asked_as else [variants[i] for i in variants if i in wanted.variants]
    names, tools = _used(connection, shown)
    cases = [case for case in case_rows(connection, run) if not case.quarantined]
    names = names or sorted({name for case in cases for name in case.inputs})
    answer = stored.run_header(connection, run).get("expected_field")
    keys = {case.id: _key(case, names, answer) for case in cases}
    aside = _held_out(cases, wanted.hold_out)
    preferred = _preferred(list_votes(connection, run, "pair")) if wanted.answers == VOTES else {}
    picked = Picked([], tuple(names), {}, {}, len(aside))
    found: dict[str, list[Example]] = {}
    for case, rows in groupby(stored.trial_rows(connection, run), key=lambda row: row.case_id):
        if case in keys and case not in aside:
            made, why = _of_case(list(rows), wanted, preferred.get(case, ()), tools)
            found[case] = made
            picked.left.update([why] if not made else [])
    for case in keys:
        if case not in aside:
            picked.examples.extend(found.get(case, ()))
            (picked.trained if found.get(case) else picked.passed_over)[case] = keys[case]
    return picked


def default_answers(kinds: Iterable[tuple[str, Kind]]) -> str:
    """The first scorer of passes, else the expected answers; of `store.runs.run_scorers`."""
    return next((name for name, kind in kinds if kind == "pass"), EXPECTED)


def made_from(run: Run, variants: Sequence[VariantRow], wanted: Wanted) -> dict[str, Json]:
    """Where examples come from, for people who find the file."""
    labels = {v.id: v.label for v in variants}
    taken = [label for name, label in labels.items() if name in wanted.variants]
    asked_as = {"as": labels[wanted.asked_as]} if wanted.asked_as else {}
    return {"run": run.id, "suite": run.suite, "variants": taken, **asked_as, "answers": wanted.answers}


def _check(wanted: Wanted, kinds: Mapping[str, Kind]) -> None:
    if wanted.answers == VOTES and not wanted.pairs:
        raise UseError("votes say which of two answers is better: they go with the forms of preferences")
    if wanted.answers == EXPECTED and wanted.pairs:
        raise UseError("the expected answers have no worse ones beside them; name a scorer or 'votes'")
    if wanted.answers in (EXPECTED, VOTES):
        return
    if wanted.answers not in kinds:
        raise UnknownName("scorer", wanted.answers, [*kinds, EXPECTED, VOTES])
    if kinds[wanted.answers] == "label":
        raise UseError(f"scorer '{wanted.answers}' gives labels, of which none is better; name another")
    if kinds[wanted.answers] != "pass" and wanted.least is None and wanted.most is None:
        raise UseError(
            f"scorer '{wanted.answers}' passes nothing: say what a good answer is given, at least or at most"
        )


def _used(connection: Any, variants: Iterable[VariantRow]) -> tuple[list[str], dict[str, tuple[Json, ...]]]:
    """The inputs that the variants' prompts use, none where a prompt can't be read; and each one's tools."""
    names: set[str] = set()
    tools: dict[str, tuple[Json, ...]] = {}
    for variant in variants:
        kept = next(iter(revisions.find_revision(connection, variant.prompt, variant.revision)), None)
        try:
            prompt = parse_prompt(kept.text, variant.prompt, partials=kept.partials) if kept else None
        except PromptError:  # it needs what only its own project has, such as a variable of the environment
            prompt = None
        if prompt is None:
            return [], tools
        names |= {declared.name for declared in prompt.inputs} - set(variant.settings.get("vars", ()))
        tools[variant.id] = prompt.tools
    return sorted(names), tools


def _key(case: CaseRow, names: Sequence[str], answer: str | None) -> str:
    """As `define.held_out.Trained.key`: by the used inputs, or by all there is where the case continues a chat."""
    inputs = {**case.inputs, **({answer: case.expected} if answer else {})}
    continues = Case(case.id, inputs, case.expected).key != case.key
    return case.key if continues else case_key(inputs, names) or case.key


def _held_out(cases: Sequence[CaseRow], share: float) -> set[str]:
    """The cases on the side of evaluation: all of a group or none of it."""
    groups, clusters = Groups(len(cases)), dict[str, int]()
    for i, case in enumerate(cases):
        if case.cluster is not None:
            groups.join(clusters.setdefault(case.cluster, i), i)
    for members in near_duplicates([said(case.inputs) for case in cases]):
        for other in members[1:]:
            groups.join(members[0], other)
    names: dict[int, str] = {}
    for i, case in enumerate(cases):
        names[groups.of(i)] = min(names.get(groups.of(i), case.id), case.id)
    return {case.id for i, case in enumerate(cases) if _fraction(names[groups.of(i)]) < share}


def _fraction(name: str) -> float:
    """Between 0 and 1, by the name alone."""
    digest = hashlib.sha256(b"hold-out:" + name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _preferred(votes: Iterable[VoteRow]) -> dict[str, list[tuple[str, str]]]:
    """Case → pairs of trials, the better first, as most people said; those without a majority are left out."""
    sums: dict[tuple[str, str, str], int] = {}
    for vote in votes:
        first, second = sorted((vote.first, vote.second))
        sign = 0 if vote.said == "tie" else 1 if (vote.said == "first") == (vote.first == first) else -1
        place = (vote.case, first, second)
        sums[place] = sums.get(place, 0) + sign
    found: dict[str, list[tuple[str, str]]] = {}
    for (case, first, second), sign in sums.items():
        if sign:
            found.setdefault(case, []).append((first, second) if sign > 0 else (second, first))
    return found


def _of_case(
    rows: list[TrialRow],
    wanted: Wanted,
    preferred: Iterable[tuple[str, str]],
    tools: Mapping[str, tuple[Json, ...]],
) -> tuple[list[Example], str]:
    """The examples of one case, or why it has none."""
    shown = next((row for row in rows if row.variant_id == wanted.asked_as), None)
    if wanted.asked_as and shown is None:
        return [], "no trial of the variant that --as names"
    taken = [row for row in rows if row.variant_id in wanted.variants]
    if wanted.answers == EXPECTED:
        if rows[0].expected is None:
            return [], "no expected answer"
        answer = {"content": _expected(rows[0].expected)}
        made = {canonical(row.messages): (row, answer, None) for row in ([shown] if shown else taken)}
    elif wanted.answers == VOTES:
        made = _voted({row.trial_id: row for row in taken}, preferred, shown)
        if not made:
            return [], "no two answers to the same messages of which most people preferred one"
    else:
        made = _scored(taken, wanted, shown)
        if not made:
            return [], "no answer that passed" if not wanted.pairs else "no good answer with a worse one beside it"
    return [
        Example(row.case_id, row.messages, answer, worse, tools.get(row.variant_id, ()))
        for row, answer, worse in made.values()
    ], ""


Made = dict[str, tuple[TrialRow, Json, Json]]
"""Messages → a trial that was asked so, the answer, a worse one."""


def _voted(rows: Mapping[str, TrialRow], preferred: Iterable[tuple[str, str]], shown: TrialRow | None) -> Made:
    made: Made = {}
    for better, worse in preferred:
        one, other = rows.get(better), rows.get(worse)
        if one is None or other is None or not (_whole(one) and _whole(other)):
            continue
        if shown is None and one.messages != other.messages:
            continue
        pair = (_answer(one), _answer(other))
        if pair[0] != pair[1]:
            made[canonical([(shown or one).messages, *pair])] = (shown or one, *pair)
    return made


def _scored(rows: Sequence[TrialRow], wanted: Wanted, shown: TrialRow | None) -> Made:
    """Of each group that was asked the same: the answer that most often passed, and the one that most often did not."""
    groups: dict[str, list[TrialRow]] = {}
    for row in rows:
        groups.setdefault("" if shown else canonical(row.messages), []).append(row)
    made: Made = {}
    for name, members in groups.items():
        sides: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        answers: dict[str, Json] = {}
        for row in filter(_whole, members):
            value = next((s.value for s in row.scores if s.scorer == wanted.answers), None)
            if isinstance(value, (int, float)):
                good = _good(value, wanted)
                answers[canonical(_answer(row))] = _answer(row)
                sides[good].update([canonical(_answer(row))])
        best, worst = (next(iter(sides[good].most_common(1)), (None, 0))[0] for good in (True, False))
        if best is not None and (worst is not None or not wanted.pairs) and best != worst:
            made[name] = (shown or members[0], answers[best], answers[worst] if wanted.pairs and worst else None)
    return made


def _good(value: float, wanted: Wanted) -> bool:
    """Within the bounds; without any, a pass."""
    if wanted.least is None and wanted.most is None:
        return value >= 1
    return (wanted.least is None or value >= wanted.least) and (wanted.most is None or value <= wanted.most)


def _whole(row: TrialRow) -> bool:
    """Whether the trial has an answer, and not one that was cut."""
    output = row.output
    return output is not None and output.failure is None and output.finish_reason in ("stop", "tool_calls")


def _answer(row: TrialRow) -> Json:
    assert row.output is not None
    calls = {"tool_calls": list(row.output.tool_calls)} if row.output.tool_calls else {}
    return {"content": row.output.text, **calls}


def _expected(value: Json) -> str:
    """The first of several, which are all right; what is no text is its JSON."""
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else canonical(value)
