"""Scores added up while they come, so that what is there so far can be summarised at any moment."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.records import Case, CaseScores, Kind


class Tally:
    """One scorer's numbers, added up over repeats."""

    def __init__(self, scorer: str, kind: Kind, variants: Sequence[str], cases: Sequence[Case]) -> None:
        """`variants` by their ids."""
        self._variants = {name: i for i, name in enumerate(variants)}
        self._cases = {case.id: i for i, case in enumerate(cases)}
        self._entries: dict[tuple[int, int], int] = {}
        self._variant: list[int] = []
        self._case: list[int] = []
        self._count: list[int] = []
        self._value: list[float] = []
        self._about = (scorer, kind, tuple(self._variants), tuple(self._cases), tuple(case.cluster for case in cases))
        self._lowest, self._highest, self._zero_or_one = 0.0, 0.0, True

    def add(self, variant: str, case: str, value: float) -> None:
        """One score of a trial."""
        place = self._variants[variant], self._cases[case]
        at = self._entries.setdefault(place, len(self._entries))
        if at == len(self._value):
            self._variant.append(place[0])
            self._case.append(place[1])
            self._count.append(0)
            self._value.append(0.0)
        first = len(self._value) == 1 and not self._count[0]
        self._lowest = value if first else min(self._lowest, value)
        self._highest = value if first else max(self._highest, value)
        self._zero_or_one = self._zero_or_one and value in (0, 1)
        self._count[at] += 1
        self._value[at] += value

    def so_far(self) -> CaseScores:
        """What is added up by now; to be used before the next score is added."""
        sums = (self._variant, self._case, self._count, self._value)
        return CaseScores(*self._about, *sums, self._lowest, self._highest, self._zero_or_one)
