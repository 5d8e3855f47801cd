"""Scores by scorers that ask models: the second wave of a run, or of `score` on a stored one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, product
from threading import Event
from typing import Any

from workbench.asking import Ask, Asker, Desk, Job, Judging, project_budget
from workbench.define.sweep import select
from workbench.errors import DataError, ScorerError, UseError
from workbench.flight import Room
from workbench.records import EMPTY, Case, Json, Judgement, Output, Score, ScorerSpec, Variant
from workbench.run.send import Dispatcher
from workbench.scorers.base import Answered, Asking, Scorer
from workbench.scorers.build import asking_parts, compares, score_key
from workbench.scoring import Scorers, case_of, check_expected, expected_answer
from workbench.store import recording, runs
from workbench.store.database import Database
from workbench.store.runs import TrialRow, VariantRow


def asks(scorer: Scorer) -> bool:
    """Whether a scorer belongs into the second wave: it, or a part of it, asks a model or compares all variants."""
    return compares(scorer) or any(True for _ in asking_parts(scorer))


def split_scorers(scorers: Scorers) -> tuple[Scorers, Scorers]:
    """Those that judge by themselves, and those that ask models."""
    return [pair for pair in scorers if not asks(pair[1])], [pair for pair in scorers if asks(pair[1])]


def check_askable(scorers: Scorers, cases: Sequence[Case]) -> None:
    """Raises DataError for the first case about which a scorer's requests can't be made."""
    some = Output("", "an answer")
    for (spec, scorer), case in product(scorers, cases):
        if isinstance(scorer, Asking):
            try:
                scorer.requests(Answered(some, case, expected_answer(spec, case), other=lambda variant: Output("", "")))
            except ScorerError as error:
                raise DataError(f"case '{case.id}', scorer '{spec.name}': {error}", *case.place) from error


def most_requests(scorers: Scorers) -> int:
    """How many requests the judging of one answer takes at most."""
    return sum(part.most_requests for _, scorer in scorers for part in asking_parts(scorer))


def described(scorers: Scorers) -> dict[str, Json]:
    """Scorer → what each of its asking parts rests on, for a run's header; `against`: the variant that it compares
    with; `inside`: it is a part, whose value is not the scorer's own."""
    found: dict[str, Json] = {}
    for spec, scorer in scorers:
        for part in asking_parts(scorer):
            about = {"against": part.against} if part.against is not None else {}
            about |= {} if part is scorer else {"inside": True}
            contents = part.content if isinstance(part.content, list) else [part.content]
            found.setdefault(spec.name, []).extend({**content, **about} for content in contents)
    return found


def judge_run(
    room: Room, scorers: Scorers, dispatcher: Dispatcher, judging: Judging, changed: Callable[[], None]
) -> None:
    """Scores the run's answers by scorers that ask models; scores that are there on the same terms are kept.
    `changed` is called whenever some may have been made.

    Raises UseError for a variant to compare with that the run lacks, and what makes going on impossible."""
    if not scorers:
        return
    with room.database.read() as connection:
        wave = _Wave(room, scorers, judging, changed, runs.run_variants(connection, room.run))
        wave.old = recording.score_keys(connection, room.run)
        judging.planned = runs.get_run(connection, room.run).answered * len(scorers)
        try:
            rows = runs.trial_rows(connection, room.run)
            Asker(room, dispatcher, judging).drive(wave.jobs(rows), wave.save)
        finally:
            wave.save()


def judge_stored(
    database: Database, run: str, scorers: Scorers, desk: Desk, limits: Mapping[str, Json], stop: Event | None = None
) -> Judging:
    """Scores a stored run by scorers that ask models, with their own calls; `limits` is the project's budget."""
    judging = Judging()
    if not scorers:
        return judging
    with database.read() as connection:
        for row in runs.trial_rows(connection, run):
            check_expected(scorers, [case_of(row)])
    room = Room(database, run, desk.engines, project_budget(limits, database, desk), stop=stop or Event())
    with Dispatcher(desk.engines) as dispatcher:
        judge_run(room, scorers, dispatcher, judging, lambda: None)
    with database.write() as connection:
        recording.add_scorers(connection, run, [spec.name for spec, _ in scorers], described(scorers))
    return judging


class _Wave:
    """The scores to make, as jobs that ask; they are stored as they come."""

    def __init__(
        self,
        room: Room,
        scorers: Scorers,
        judging: Judging,
        changed: Callable[[], None],
        variants: Sequence[VariantRow],
    ) -> None:
        self._room, self._scorers, self._judging, self._changed = room, scorers, judging, changed
        self.old: Mapping[tuple[str, str], str] = {}
        self._fresh: list[Score] = []
        self._references = {
            repr(part.against): find_reference(variants, part.against)
            for _, scorer in scorers
            for part in asking_parts(scorer)
            if part.against is not None
        }

    def jobs(self, rows: Iterator[TrialRow]) -> Iterator[Job]:
        """A job for each answer and scorer, case by case."""
        for _, of_case in groupby(rows, key=lambda row: row.case_id):
            answers = {
                (row.variant_id, row.repeat): row
                for row in of_case
                if row.output is not None and not row.output.failure
            }
            for row in answers.values():
                if row.output is not None:
                    rivals = [
                        r.output for r in answers.values() if r.repeat == row.repeat and r is not row and r.output
                    ]
                    about = partial(Answered, row.output, other=partial(self._other, row, answers), rivals=rivals.copy)
                    yield from (partial(self._score, row, about, *pair) for pair in self._scorers)

    def save(self) -> None:
        """Stores what was scored since the last time."""
        fresh, self._fresh = self._fresh, []
        if fresh:
            with self._room.database.write() as connection:
                recording.save_scores(connection, self._room.run, fresh)
        self._changed()

    def _score(self, row: TrialRow, about: Callable[..., Answered], spec: ScorerSpec, scorer: Scorer, ask: Ask) -> None:
        case = case_of(row)
        expected = expected_answer(spec, case)
        try:
            answer = about(case=case, expected=expected, ask=ask)
            texts = [answer.other(part.against).text for part in asking_parts(scorer) if part.against is not None]
            texts += [output.text for output in answer.rivals()] if compares(scorer) else []
            key = score_key(spec, scorer, expected, texts)
            if self.old.get((row.trial_id, spec.name)) == key:
                self._judging.kept += 1
                return
            judged = scorer(answer)
        except ScorerError as error:
            judged, key = Judgement(None, "pass", str(error)), ""
            self._judging.unscored[f"scorer '{spec.name}': {error}"] += 1
        self._judging.made += bool(key)
        self._fresh.append(Score(row.trial_id, spec.name, key, judged.value, judged.kind, judged.reason))

    def _other(self, row: TrialRow, answers: Mapping[tuple[str, int], TrialRow], variant: Json) -> Output:
        found = answers.get((self._references[repr(variant)], row.repeat))
        if found is None or found.output is None:
            raise ScorerError(f"the variant to compare with has no answer to case '{row.case_id}'")
        return found.output


def find_reference(variants: Sequence[VariantRow], wanted: Any) -> str:
    """The id of the one variant of that label, or that `{prompt, model, …}` describes; raises UseError."""
    found = [v.id for v in variants if v.label == wanted]
    if isinstance(wanted, Mapping):
        records = {
            v.id: Variant(v.prompt, v.revision, v.model, v.settings.get("params", EMPTY), v.settings.get("vars", EMPTY))
            for v in variants
        }
        chosen = select(records.values(), wanted)
        found = [i for i, record in records.items() if any(record is one for one in chosen)]
    if len(found) != 1:
        labels = ", ".join(f"'{v.label}'" for v in variants[:8])
        raise UseError(f"'against: {wanted}' must be one variant of the run, but is {len(found)}; there are: {labels}")
    return found[0]
