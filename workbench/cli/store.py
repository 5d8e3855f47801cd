"""`workbench store`: the store as a file to keep, to hand on, to make smaller and to look through."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli.session import Session, emit
from workbench.define.suite_file import parse_duration
from workbench.errors import UseError
from workbench.views.format import one_line, plural

if TYPE_CHECKING:
    from workbench.upkeep import Cleared

FAULTY = 3
json_option = click.option("--json", "as_json", is_flag=True, help="JSON Lines.")


@click.group()
def store() -> None:
    """The store of runs: export, import, merge, prune, verify. An export serves as a CI cache entry."""


@store.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--run", "runs", multiple=True, metavar="RUN", help="Only this run; several are possible.")
@click.pass_obj
def export_(session: Session, file: Path, runs: tuple[str, ...]) -> None:
    """Write the store, or some of its runs with all that they refer to, as one FILE (gzip'd JSON Lines)."""
    from workbench.store.runs import get_run
    from workbench.store.transfer import write_export

    target = file.resolve()
    with session.database().read() as connection:
        chosen = [get_run(connection, run).id for run in runs]
        try:
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as part:
                temporary = Path(part.name)
                try:
                    count = write_export(connection, part.file, chosen)
                    part.flush()
                    os.fsync(part.fileno())
                    temporary.replace(target)
                finally:
                    temporary.unlink(missing_ok=True)
        except OSError as error:
            raise UseError(f"{file} can't be written: {error.strerror}; name another file") from error
    click.echo(f"{plural(count, 'row')} written to {one_line(str(file))}", err=True)


@store.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@click.pass_obj
def import_(session: Session, file: Path, as_json: bool) -> None:
    """Take in an export. What is in the store stays; nothing is doubled; a damaged FILE changes nothing."""
    _take(session, file, "export", as_json)


@store.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@click.pass_obj
def merge(session: Session, file: Path, as_json: bool) -> None:
    """Take in another store, an SQLite FILE such as that of another machine or shard; it is only read."""
    _take(session, file, "store", as_json)


def _take(session: Session, file: Path, wanted: str, as_json: bool) -> None:
    from workbench.store.transfer import kind_of
    from workbench.upkeep import take_in_file

    if kind_of(file) != wanted:
        other = {"export": "a store: use 'workbench store merge'", "store": "an export: use 'workbench store import'"}
        raise UseError(f"{file} is {other[wanted]}")
    _tell(take_in_file(session.database(), file), as_json)


def _tell(added: Counter[str], as_json: bool) -> None:
    if as_json:
        emit([dict(added)], [], True)
        return
    parts = [f"{count:,} {table}" for table, count in added.items() if count]
    click.echo("new: " + (", ".join(parts) or "nothing, all of it was here"))


@store.command()
@click.option("--keep", type=click.IntRange(0), metavar="N", help="Keep the newest N runs of each suite.")
@click.option("--older", metavar="30d", help="Remove runs that started longer ago than this.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
@click.pass_obj
def prune(session: Session, keep: int | None, older: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove old runs, and the answers and indexes of passages that only they used. Runs at work and runs with notes or
    votes stay."""
    from workbench.upkeep import prune_store

    if (keep is None) == (older is None):
        raise UseError("say which runs go: --keep N or --older 30d")
    before = _time(older) if older else None
    _tell_pruned(prune_store(session.database(), session.project.root, keep, before, dry_run), dry_run, as_json)


def _time(older: str) -> str:
    try:
        moment = datetime.now(UTC) - timedelta(seconds=parse_duration(older))
    except (ValueError, OverflowError) as error:
        raise UseError(f"--older {error}") from error
    return moment.isoformat(timespec="milliseconds")


def _tell_pruned(done: Cleared, dry_run: bool, as_json: bool) -> None:
    rows, size = done.rows, sum(index.size for index in done.indexes)
    row: Mapping[str, object] = {
        "runs": list(rows.runs),
        "outputs": rows.outputs,
        "requests": rows.requests,
        "indexes": [{"index": index.key, "bytes": index.size} for index in done.indexes],
        "indexes_in_use": done.in_use,
        "spared": list(rows.spared),
        "dry_run": dry_run,
    }
    if as_json:
        emit([row], [], True)
        return
    gone = [plural(len(rows.runs), "run"), plural(rows.outputs, "output"), plural(rows.requests, "request")]
    if done.indexes:
        number = len(done.indexes)
        gone.append(f"{number:,} index{'' if number == 1 else 'es'} of passages ({size / 1e6:,.1f} MB)")
    click.echo(("would go: " if dry_run else "removed: ") + ", ".join(gone))
    if rows.spared:
        click.echo(f"kept though old, at work or written on: {', '.join(rows.spared)}", err=True)
    if done.in_use:
        click.echo("every index of passages is kept: a run looks passages up; prune again when it has", err=True)


@store.command()
@json_option
@click.pass_obj
def verify(session: Session, as_json: bool) -> int:
    """Look the store through: pages, pointers, ids made again from content. Exit code 3 where something is wrong."""
    from workbench.upkeep import verify_store

    found = verify_store(session.database())
    rows = [{"what": f.what, "count": f.count, "example": f.example, "do": f.advice} for f in found]
    if found or as_json:
        emit(rows, ("what", "count", "example", "do"), as_json)
    else:
        click.echo("all is well")
    return FAULTY if found else 0
