"""Whether more is asked: the one arrow that reaches back, for suites with `until` or `race`.

The blocks up to the next look are asked only when all before are answered and scored, also by models. Decisions rest
on these complete blocks alone, in the order that the suite's seed fixes, so that a run that is taken up again decides
the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice

from workbench.errors import SuiteError
from workbench.records import Json, Kind, ScoreColumns, Suite
from workbench.run.plan import Planned
from workbench.stats.racing import losers, race_levels
from workbench.stats.sequential import MOST_LOOKS, compare_so_far, plan_levels, plan_looks
from workbench.stats.verdict import stopped_sentence
from workbench.store.database import Database
from workbench.store.runs import score_columns

UNDECIDED = "not enough data"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a variant stood when it was last looked at."""

    variant: str
    cases: int
    """After how many cases."""
    verdict: str
    """As in `stats.paired.Verdict`; in a race: `dropped`."""
    against: str
    """The reference; in a race the best of those that beat it."""
    difference: float
    """Its mean less that one's."""
    interval: tuple[float, float] | None
    """Of the difference; it holds over all looks and rows together. None in a race."""
    pairs: int
    """Cases (in a race with clusters: clusters) that the difference rests on."""
    cases_needed: int | None = None
    """As in `stats.paired.PairedComparison`, at this look's level."""


class Stopping:
    """Hands on a plan, look by look, until the suite's question is settled."""

    def __init__(
        self,
        suite: Suite,
        scores: Callable[[str], ScoreColumns],
        compared: Collection[str] = (),
        most_looks: int = MOST_LOOKS,
    ) -> None:
        """`scores` reads a scorer's scores so far; `compared`: variants whose answers others are judged against,
        which are asked to the end."""
        self._suite, self._scores, self._compared = suite, scores, compared
        self._rule: Mapping[str, Json] = suite.until or suite.race
        self._reference = suite.reference or suite.variants[0].id
        self._labels = {v.id: v.label for v in suite.variants}
        self._looks = plan_looks(len(suite.cases), suite.block, most_looks)
        self._asked: set[str] = set()
        self.live = [v.id for v in suite.variants]
        """Variants whose standing is open."""
        self.standings: dict[str, Standing] = {}
        """By variant; those of variants that are not live are final."""
        self._kind: Kind = "pass"

    @property
    def over(self) -> bool:
        """Everything is settled."""
        return len(self.live) <= (self._rule["keep"] if self._suite.race else 1)

    def stretches(self, plan: Iterator[list[Planned]]) -> Iterator[Iterator[list[Planned]]]:
        """The blocks up to each look, with the trials that are still asked. Whoever takes the next stretch has had
        all before answered and scored: it is only then that the data are looked at.

        Raises SuiteError for scores that can't decide."""
        for look, level in zip(self._looks, self._levels(self._looks), strict=True):
            begun: set[str] = set()
            yield self._blocks(islice(plan, math.ceil((look - len(self._asked)) / self._suite.block)), begun)
            self._asked |= begun
            self._look(level)
            if self.over:
                return

    def _blocks(self, plan: Iterator[list[Planned]], begun: set[str]) -> Iterator[list[Planned]]:
        wanted = {*self.live, *self._compared}
        for block in plan:
            begun |= {p.trial.case.id for p in block}
            yield [p for p in block if p.trial.variant.id in wanted]

    def report(self) -> dict[str, Json]:
        """What was decided, for the run's header; `reason` says it in words."""
        facts: dict[str, Json] = {
            "rule": "race" if self._suite.race else "until",
            **self._rule,
            "kind": self._kind,
            "looks": list(self._looks),
            "cases_asked": len(self._asked),
            "cases": len(self._suite.cases),
            "standings": [asdict(s) for s in self.standings.values()],
            "left": [v for v in self.live if self._suite.race or v != self._reference],
        }
        return {**facts, "reason": stopped_sentence(facts, self._labels)}

    def _levels(self, looks: Sequence[int]) -> Sequence[float]:
        rivals, confidence = len(self.live) - 1, self._rule["confidence"]
        if self._suite.race:
            return race_levels(looks, rivals + 1, self._rule["keep"], confidence)
        return plan_levels(looks, (1 - confidence) / rivals)

    def _look(self, level: float) -> None:
        columns = only_cases(self._scores(self._rule["scorer"]), self._asked)
        if not len(columns.value):
            return
        check_decides(self._suite, columns.kind)
        self._kind = columns.kind
        new = self._race(columns, level) if self._suite.race else self._compare(columns, level)
        self.standings |= {s.variant: s for s in new}
        self.live = [v for v in self.live if v not in self.standings or self.standings[v].verdict == UNDECIDED]

    def _compare(self, columns: ScoreColumns, level: float) -> list[Standing]:
        margin, confidence = self._rule["smaller_than"], self._rule["confidence"]
        rows = compare_so_far(columns, self._reference, margin, confidence, level)
        n = len(self._asked)
        return [
            Standing(r.variant, n, r.verdict, r.reference, r.difference or 0.0, r.interval, r.pairs, r.cases_needed)
            for r in rows
            if r.variant in self.live
        ]

    def _race(self, columns: ScoreColumns, level: float) -> list[Standing]:
        dropped = losers(columns, self.live, self._rule["keep"], level)
        n = len(self._asked)
        return [Standing(d.variant, n, "dropped", d.beaten_by, d.difference, None, d.pairs) for d in dropped]


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
