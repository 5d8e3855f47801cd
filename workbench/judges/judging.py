"""Scores by scorers that ask models: of a run while it goes, or of a stored one.

They are made of answers that are there: of all of a run's, or, where it may end early, of those up to the next look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, product
from threading import Event

from workbench.asking import Ask, Asker, Desk, Job, Judging
from workbench.define.sweep import select
from workbench.errors import DataError, ScorerError, UseError
from workbench.flight import Room
from workbench.records import EMPTY, Case, Json, Judgement, Output, Score, ScorerSpec, Variant
from workbench.run.budget import Budget
from workbench.run.send import Dispatcher
from workbench.scorers.base import Answered, Asking, Scorer, countable
from workbench.scorers.build import asking_parts, compares, score_key, scorer_terms, share_of
from workbench.scorers.judge import Judge
from workbench.scoring import Scorers, case_of, check_expected, expected_answer
from workbench.store import recording, runs
from workbench.store.database import Database
from workbench.store.runs import TrialRow, VariantRow
from workbench.store.summaries import keep_ended


def asks(scorer: Scorer) -> bool:
    """Whether a scorer waits for the answers: it, or a part of it, asks a model or compares all variants."""
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
    with; `inside`: it is a part, whose value is not the scorer's own; `share`: by how much that moves with its;
    `range`: the ends of a scale of numbers."""
    found: dict[str, Json] = {}
    for spec, scorer in scorers:
        for part in asking_parts(scorer):
            about = {"against": part.against} if part.against is not None else {}
            about |= {} if part is scorer else {"inside": True}
            about |= {"range": list(ends)} if isinstance(part, Judge) and (ends := part.range) else {}
            about |= {"share": share} if (share := share_of(scorer, part)) is not None else {}
            contents = part.content if isinstance(part.content, list) else [part.content]
            found.setdefault(spec.name, []).extend({**content, **about} for content in contents)
    return found


def judge_stored(
    database: Database, run: str, scorers: Scorers, desk: Desk, budgets: Sequence[Budget], stop: Event | None = None
) -> Judging:
    """Scores a stored run by scorers that ask models, with their own calls, within these budgets.

    Raises DataError, UseError for a variant to compare with that the run lacks, and what makes going on impossible."""
    judging = Judging()
    if not scorers:
        return judging
    trials = []
    with database.read() as connection:
        for row in runs.trial_rows(connection, run):
            check_expected(scorers, [case_of(row)])
            trials.append(row.trial_id)
        judging.planned = runs.get_run(connection, run).answered * len(scorers)
    room = Room(database, run, desk.engines, budgets, stop=stop or Event())
    with desk.traced(f"score {run}", {"workbench.run.id": run}, judging) as ended:
        dispatcher = Dispatcher(desk.engines, ended=ended)
        judges = RunJudging(room, scorers, dispatcher, judging)
        try:
            with dispatcher:
                judges.judge(trials)
        finally:
            judges.close()
    with database.write() as connection:
        recording.add_scorers(connection, run, scorer_terms(scorers), described(scorers))
        keep_ended(connection, [run])
    return judging


class RunJudging:
    """Scores a run's answers by scorers that ask models, some trials after others; scores that are there on the
    same terms are kept, new ones are stored as they come. Lives in one thread, the store's writer."""

    def __init__(
        self,
        room: Room,
        scorers: Scorers,
        dispatcher: Dispatcher,
        judging: Judging,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`changed` is called whenever some scores may have been made. Raises UseError for a variant to compare with
        that the run lacks."""
        self._room, self._scorers, self._judging, self._changed = room, scorers, judging, changed
        self._asker = Asker(room, dispatcher, judging)
        self._fresh: list[Score] = []
        with room.database.read() as connection:
            variants = runs.run_variants(connection, room.run) if scorers else []
            self._old = recording.score_keys(connection, room.run) if scorers else {}
        self._references = compared_with(_records(variants), scorers)

    def judge(self, trials: Sequence[str]) -> None:
        """Scores the answers among the trials with these ids, which hold all of their cases and stand case by case.
        Ends early at a stop and where a budget is used up; raises what makes going on impossible."""
        if not self._scorers:
            return
        with self._room.database.read() as connection:
            try:
                self._asker.drive(self._jobs(runs.rows_of(connection, self._room.run, trials)), self._save)
            finally:
                self._save()

    def close(self) -> None:
        """Keeps the answers that came in while the engines closed."""
        self._asker.close()

    def _jobs(self, rows: Iterator[TrialRow]) -> Iterator[Job]:
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

    def _save(self) -> None:
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
            if self._old.get((row.trial_id, spec.name)) == key:
                self._judging.kept += 1
                return
            judged = countable(scorer(answer))
        except ScorerError as error:
            judged = Judgement(None, "pass", str(error), failed=True)
        if judged.failed:
            key = ""
            self._judging.unscored[f"scorer '{spec.name}': {judged.reason}"] += not row.quarantined
        self._judging.made += bool(key)
        self._fresh.append(Score(row.trial_id, spec.name, key, judged.value, judged.kind, judged.reason))

    def _other(self, row: TrialRow, answers: Mapping[tuple[str, int], TrialRow], variant: Json) -> Output:
        found = answers.get((self._references[repr(variant)], row.repeat))
        if found is None or found.output is None:
            raise ScorerError(f"the variant to compare with has no answer to case '{row.case_id}'")
        return found.output


def compared_with(variants: Mapping[str, Variant], scorers: Scorers) -> dict[str, str]:
    """The variants that scorers compare with: the `repr` of each `against` → the variant's id. Raises UseError."""
    parts = (part for _, scorer in scorers for part in asking_parts(scorer))
    return {repr(p.against): _find(variants, p.against) for p in parts if p.against is not None}


def find_reference(variants: Sequence[VariantRow], wanted: Json) -> str:
    """The id of the one variant of that label, or that `{prompt, model, …}` describes; raises UseError."""
    return _find(_records(variants), wanted)


def _records(rows: Sequence[VariantRow]) -> dict[str, Variant]:
    """Stored variants by the ids that they have there."""
    return {
        r.id: Variant(
            r.prompt, r.revision, r.model, r.settings.get("params", EMPTY), r.settings.get("vars", EMPTY), label=r.label
        )
        for r in rows
    }


def _find(variants: Mapping[str, Variant], wanted: Json) -> str:
    found = [i for i, variant in variants.items() if variant.label == wanted]
    if isinstance(wanted, Mapping):
        chosen = select(variants.values(), wanted)
        found = [i for i, variant in variants.items() if any(variant is one for one in chosen)]
    if len(found) != 1:
        labels = ", ".join(f"'{variant.label}'" for variant in list(variants.values())[:8])
        raise UseError(f"'against: {wanted}' must be one variant of the run, but is {len(found)}; there are: {labels}")
    return found[0]
