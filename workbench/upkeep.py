"""The store as a thing of its own: taken in, made smaller, and looked through, the ids of its requests made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import FileError
from workbench.records import Json, content_id
from workbench.retrieval.indexes import Index, not_in_use, remove
from workbench.run.plan import derived_seed
from workbench.store.check import Finding, check_store, run_seeds
from workbench.store.database import Database
from workbench.store.prune import Pruned, prune
from workbench.store.retrieved import indexes_used
from workbench.store.taking import take_in
from workbench.store.transfer import kind_of, read_export, read_store


def take_in_file(database: Database, path: Path) -> Counter[str]:
    """Takes in an export or another store's SQLite file; gives how many rows of each table were new.

    One transaction: raises FileError with the store as it was where the file is damaged, foreign, or holds a request
    whose id is not that of its content.
    """
    rows = read_export(path) if kind_of(path) == "export" else read_store(path)
    with database.write() as connection:
        seeds = set(run_seeds(connection))

        def check(table: str, row: Mapping[str, Json]) -> None:
            if table == "runs" and isinstance(row["header"].get("seed"), int):
                seeds.add(row["header"]["seed"])
            if table == "requests" and id_fits(row, frozenset(seeds)) is False:
                raise FileError(f"request {row['id']} is not what its id says")

        try:
            return take_in(connection, rows, check)
        except FileError as error:
            if error.path is not None:
                raise
            raise FileError(f"{error.message}; nothing was taken in", path) from error


@dataclass(frozen=True, slots=True)
class Cleared:
    """What went, or would go."""

    rows: Pruned
    indexes: tuple[Index, ...]
    """Of passages: those that no run left in the store used."""
    in_use: bool
    """A run looks passages up at this moment, so that every index stays, and what was embedded for it."""


def prune_store(database: Database, root: Path, keep: int | None, before: str | None, dry_run: bool = False) -> Cleared:
    """Removes old runs as `store.prune.prune` does, and the project's indexes that no other run used."""
    with not_in_use(root) as indexes:
        with database.write() as connection:
            rows = prune(connection, keep, before, begins=indexes is None)
            used = indexes_used(connection)
            if dry_run:
                connection.rollback()
        unused = tuple(index for index in indexes or () if index.key not in used)
        for index in unused if not dry_run else ():
            remove(index)
    if not dry_run:
        database.compact()
    return Cleared(rows, unused, indexes is None)


def verify_store(database: Database) -> list[Finding]:
    """What is wrong with the store."""
    with database.read() as connection:
        return list(check_store(connection, id_fits))


def id_fits(row: Mapping[str, Json], seeds: frozenset[int]) -> bool | None:
    """Whether a stored request has the id of its content, made as `run.plan.identified` makes it.

    None where it can't be told: the model takes no seed, and the run whose seed entered the id is not known.
    """
    settings = row["settings"]
    how = [settings["params"], settings["answer"], settings["logprobs"], settings["tools"]]
    content = [row["messages"], row["identity"], how]
    if row["id"] == content_id("rq1", content):
        return True
    repeat, own = settings["repeat"], settings["seed"]
    possible = [own] if own is not None else [derived_seed(content, repeat, seed) for seed in seeds]
    if row["id"] in {content_id("rq1", [content, repeat, seed]) for seed in possible}:
        return True
    return None if own is None else False
