"""`workbench runs join`: the runs of a suite's shards become one."""

from __future__ import annotations

import click

from workbench.cli.session import Session
from workbench.store.merge import join_runs


@click.command()
@click.argument("run", nargs=-1, required=True)
@click.pass_obj
def join(session: Session, run: tuple[str, ...]) -> None:
    """Make one run of the RUNs of all shards of a suite; its id is printed. Nothing is asked."""
    with session.database().write() as connection:
        click.echo(join_runs(connection, run))
