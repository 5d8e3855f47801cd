"""Parts of a suite for several machines: its cases, split by a hash of their ids.

A case stays in its shard whatever other cases come or go, so that the answers each machine has kept fit again.
`store.merge.join_runs` makes one run of the shards' runs.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace

from workbench.errors import SuiteError, UseError
from workbench.records import Run, Suite

MOST = 10_000


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of several.

    >>> str(parse_shard("2/5"))
    '2/5'
    """

    number: int
    """From 1 on."""
    of: int

    def holds(self, name: str) -> bool:
        """Whether a case, by its id, is in this part; every id is in exactly one."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8]) % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse_shard(text: str) -> Shard:
    """What `--shard 2/5` says; raises UseError."""
    found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text, re.ASCII)
    if found is None or not 1 <= int(found[1]) <= int(found[2]) <= MOST:
        raise UseError(f"'{text}' is no shard; write NUMBER/COUNT, such as 2/5")
    return Shard(int(found[1]), int(found[2]))


def take_shard(suite: Suite, shard: Shard) -> Suite:
    """The suite with the shard's cases only. Raises SuiteError where it holds none, or where the suite ends early:
    `until` and `race` need to see all cases."""
    if suite.until or suite.race:
        raise SuiteError("'until' and 'race' decide on all cases, so they can't go with --shard", suite.path)
    cases = tuple(case for case in suite.cases if shard.holds(case.id))
    if not cases:
        raise SuiteError(f"shard {shard} holds none of the {len(suite.cases)} cases; take fewer shards", suite.path)
    return replace(suite, cases=cases, shard=str(shard))


def refuse_shard(run: Run) -> None:
    """Raises UseError for the run of one shard: it says nothing of the other cases."""
    if shard := run.header.get("shard"):
        what = f"run {run.id} has only the cases of shard {shard}; gates and baselines need all"
        raise UseError(f"{what}: put the shards together with 'workbench runs join', and name the run that it makes")


def narrowed(run: Run) -> list[str]:
    """What is said where the command line, and not the suite's file, says what a run is made of."""
    told = run.header.get("narrowed")
    return [f"the run was made with {told}: this is not the whole suite as its file has it"] if told else []
