"""`workbench jobs`: the runs that the app started in processes of their own."""

from __future__ import annotations

import click

from workbench.cli.session import Session, emit
from workbench.jobs import Job, list_jobs, log_end, state
from workbench.store.runs import list_runs
from workbench.store.standing import run_of_process


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_obj
def jobs(session: Session, as_json: bool) -> None:
    """List the jobs, newest first; stop one with Ctrl-C's signal: kill -INT PID."""
    found = list_jobs(session.project)
    if not found:
        if not as_json:
            click.echo("no job yet; start one on the app's screen Sweep: workbench ui", err=True)
        return
    with session.database().read() as connection:
        runs = {run.id: run for run in list_runs(connection)}
        rows = []
        for job in found:
            run = runs.get(job.run or run_of_process(connection, job.pid, job.queued) or "")
            row = {"job": job.id, "suite": job.suite, "state": state(job), "pid": job.pid}
            row |= {"run": run and run.id, "status": run and run.status}
            row |= {"trials": run and run.planned, "answered": run and run.answered}
            rows.append(row | {"said": _last_line(session, job)})
    emit(rows, ["job", "suite", "state", "pid", "run", "status", "trials", "answered", "said"], as_json)


def _last_line(session: Session, job: Job) -> str:
    return log_end(session.project, job).rpartition("\n")[2]
