"""Whether more is asked: the one arrow that reaches back, for suites with `until` or `race`.

The blocks up to the next look are asked only when all before are answered and scored, also by models. Decisions rest
on these complete blocks alone, in the order that the suite's seed fixes, so that a run that is taken up again decides
the same. Cases in quarantine are asked with the others, and count neither for when it is looked nor in what is seen.

After each look the run's header is given a report of where the question stands (`Stopping.report`): while the run
goes, and where it ended before the question was settled, that is all there is to see of it, and it is no result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice

from workbench.errors import SuiteError
from workbench.records import Json, Kind, ScoreColumns, Suite
from workbench.run.plan import Planned
from workbench.stats.methods import FEWEST_CASES, FEWEST_CLUSTERS
from workbench.stats.racing import race_field, race_levels
from workbench.stats.sequential import MOST_LOOKS, Look, compare_so_far, in_order, plan_levels, plan_looks
from workbench.stats.verdict import stopped_sentence
from workbench.store.database import Database
from workbench.store.runs import score_columns

UNDECIDED = "not enough data"
TOO_FEW = f"below {FEWEST_CASES} cases or {FEWEST_CLUSTERS} clusters: how much they vary can't be said yet"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a variant stood when it was last looked at."""

    variant: str
    cases: int
    """After how many cases."""
    verdict: str
    """As in `stats.paired.Verdict`; in a race `dropped`, or still `not enough data`."""
    against: str
    """The reference; in a race as in `stats.racing.Place`."""
    difference: float | None
    """Its mean less that one's; None where no case has scores of both."""
    interval: tuple[float, float] | None
    """Of the difference; it holds over all looks and rows together. None in a race, which tests and gives no bounds."""
    pairs: int
    """Cases (in a race with clusters: clusters) that the difference rests on."""
    cases_needed: int | None = None
    """As in `stats.sequential.Look.cases_needed`, by the measured variance; None where it is settled or unknown."""
    why: str = ""
    """Why there is no interval, or why it can't be said how many cases are needed."""


class Stopping:
    """Hands on a plan, look by look, until the suite's question is settled."""

    def __init__(
        self,
        suite: Suite,
        scores: Callable[[str], ScoreColumns],
        keep: Callable[[dict[str, Json]], None],
        told: int = 0,
        compared: Collection[str] = (),
        most_looks: int = MOST_LOOKS,
    ) -> None:
        """`scores` reads a scorer's scores so far. `keep` is given the report before the first look and after each,
        but for those of the first `told` looks that a run which is taken up again only makes anew. `compared`:
        variants whose answers others are judged against, which are asked to the end."""
        self._suite, self._scores, self._keep, self._told, self._compared = suite, scores, keep, told, compared
        self._rule: Mapping[str, Json] = suite.until or suite.race
        self._reference = suite.reference or suite.variants[0].id
        self._labels = {v.id: v.label for v in suite.variants}
        self._counted = sum(not case.quarantined for case in suite.cases)
        self._looks = plan_looks(max(1, self._counted), suite.block, most_looks)  # a sample may be all in quarantine
        self._made = 0
        """Looks so far."""
        self._asked: set[str] = set()
        """The cases that count, of complete blocks."""
        self._best: tuple[str, ...] = ()
        """Of a race: the best at the last look."""
        self.live = [v.id for v in suite.variants]
        """Variants whose standing is open."""
        self._plan = in_order(self._looks, self._levels(self._looks))
        self.standings: dict[str, Standing] = {}
        """By variant; those of variants that are not live are final."""
        self._kind: Kind = "pass"

    @property
    def settled(self) -> bool:
        """There is nothing left to ask."""
        return len(self.live) <= (self._rule["keep"] if self._suite.race else 1)

    def stretches(self, plan: Iterator[list[Planned]]) -> Iterator[Iterator[list[Planned]]]:
        """The blocks up to each look, with the trials that are still asked. Whoever takes the next stretch has had
        all before answered and scored: it is only then that the data are looked at.

        Raises SuiteError for scores that can't decide."""
        self._tell()
        for cases, look in zip(self._looks, self._plan, strict=True):
            begun: set[str] = set()
            yield self._blocks(islice(plan, math.ceil((cases - len(self._asked)) / self._suite.block)), begun)
            self._asked |= begun
            self._look(look)
            self._made += 1
            self._tell()
            if self.settled:
                return

    def _tell(self) -> None:
        if self._made >= self._told or self._made == len(self._looks) or self.settled:
            self._keep(self.report())

    def _blocks(self, plan: Iterator[list[Planned]], begun: set[str]) -> Iterator[list[Planned]]:
        wanted = {*self.live, *self._compared}
        for block in plan:
            begun |= {p.trial.case.id for p in block if not p.trial.case.quarantined}
            yield [p for p in block if p.trial.variant.id in wanted]

    def report(self) -> dict[str, Json]:
        """Where the question stood at the last look, for the run's header; `reason` says in words what is decided.

        `looks`: after how many cases it is looked, `looks_made` of which are behind; `level`: the two-sided level of
        one comparison at the last of them. `cases_asked` of `cases` lie in complete blocks; those in quarantine are in
        neither. `left`: the variants whose standing is open. A race adds its `best` so far, and the `margin` that
        `cases_needed` of its standings are for; of `until` that is `smaller_than`."""
        facts: dict[str, Json] = {
            "rule": "race" if self._suite.race else "until",
            **self._rule,
            "kind": self._kind,
            "looks": list(self._looks),
            "looks_made": self._made,
            "level": self._plan[self._made - 1].level if self._made else None,
            "cases_asked": len(self._asked),
            "cases": self._counted,
            "block": self._suite.block,
            "standings": [asdict(s) for s in self.standings.values()],
            "left": [v for v in self.live if self._suite.race or v != self._reference],
            "settled": self.settled,
        }
        if self._suite.race:
            facts |= {"best": list(self._best), "margin": self._suite.margin}
        return {**facts, "reason": stopped_sentence(facts, self._labels)}

    def _levels(self, looks: Sequence[int]) -> Sequence[float]:
        rivals, confidence = len(self.live) - 1, self._rule["confidence"]
        if self._suite.race:
            return race_levels(looks, rivals + 1, self._rule["keep"], confidence)
        return plan_levels(looks, (1 - confidence) / rivals)

    def _look(self, look: Look) -> None:
        columns = only_cases(self._scores(self._rule["scorer"]), self._asked)
        if not len(columns.value):
            return
        check_decides(self._suite, columns.kind)
        self._kind = columns.kind
        new = self._race(columns, look) if self._suite.race else self._compare(columns, look)
        final = {v: s for v, s in self.standings.items() if v not in self.live}
        self.standings = final | {s.variant: s for s in new}
        gone = {s.variant for s in new if s.verdict != UNDECIDED}
        self.live = [v for v in self.live if v not in gone]

    def _compare(self, columns: ScoreColumns, look: Look) -> list[Standing]:
        margin, confidence = self._rule["smaller_than"], self._rule["confidence"]
        rows = compare_so_far(columns, self._reference, margin, confidence, look)
        n = len(self._asked)
        return [
            Standing(
                r.variant, n, r.verdict, r.reference, r.difference, r.interval, r.pairs, r.cases_needed,
                r.why or _why_open(r.verdict, r.cases_needed, margin),
            )
            for r in rows if r.variant in self.live
        ]  # fmt: skip

    def _race(self, columns: ScoreColumns, look: Look) -> list[Standing]:
        margin, n = self._suite.margin, len(self._asked)
        field = race_field(columns, self.live, self._rule["keep"], look, margin)
        self._best = field.best
        verdicts = ("dropped" if p.dropped else UNDECIDED for p in field.places)
        return [
            Standing(
                p.variant, n, verdict, p.against, p.difference, None, p.pairs, p.cases_needed,
                _why_open(verdict, p.cases_needed, margin),
            )
            for p, verdict in zip(field.places, verdicts, strict=True)
        ]  # fmt: skip


def _why_open(verdict: str, needed: int | None, margin: float) -> str:
    """Why it can't be said how many cases would settle what is open."""
    if verdict != UNDECIDED or needed is not None:
        return ""
    return TOO_FEW if margin > 0 else "the suite's margin is 0, which no number of cases tells from nothing"


def check_decides(suite: Suite, kind: Kind) -> None:
    """Raises SuiteError where `until` or `race` can't go by scores of that kind."""
    key, rule = ("race", suite.race) if suite.race else ("until", suite.until)
    why = {"label": "labels, which have no mean to compare"} if suite.until else {}
    if suite.race:
        why = {k: f"{k}s, of which no one has said what is better" for k in ("label", "number")}
    if kind in why:
        raise SuiteError(
            f"'{key}' can't decide by scorer '{rule['scorer']}': it gives {why[kind]}; name another with "
            f"{key}: {{scorer: NAME}}",
            suite.path,
        )


def read_scores(database: Database, run: str, scorer: str) -> ScoreColumns:
    """The scores that a run has so far by one scorer."""
    with database.read() as connection:
        return score_columns(connection, run, scorer)


def only_cases(columns: ScoreColumns, wanted: set[str]) -> ScoreColumns:
    """The scores of these cases alone; `missing` is left out."""
    chosen = [i for i, case in enumerate(columns.case) if columns.cases[case] in wanted]
    return replace(
        columns,
        variant=[columns.variant[i] for i in chosen],
        case=[columns.case[i] for i in chosen],
        repeat=[columns.repeat[i] for i in chosen],
        value=[columns.value[i] for i in chosen],
        missing=(),
    )
