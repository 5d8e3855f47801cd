"""Runs in processes of their own: they outlive the app, wait for their turn, and can be stopped and taken up again.

A job is a file, `.workbench/jobs/ID.json`, and a process. The process starts as this module: it waits until no
earlier job of a local model is alive, takes the turn, and becomes `workbench run` by exec, so that it keeps its id,
its log and its turn, a file lock that ends with it. Nothing supervises: what a job does is read from its process
and, where its run has begun, from the store.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Thread
from typing import IO, Literal

import psutil

from workbench.define.files import state_folder
from workbench.define.project import Project
from workbench.define.suite import find_suite
from workbench.errors import UseError

State = Literal["waiting", "running", "stopping", "ended"]

MODULE = "workbench.jobs"
"""This module's name, which is in the command line of a process as long as it waits."""
KEPT = 50
"""Jobs whose files are kept; the oldest that have ended go first."""
SAME_START_SECONDS = 2.0
"""Two readings of a process's start differ a little where the clock was set meanwhile."""
LOOK_SECONDS = 0.3
LOG_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Job:
    """One started run."""

    id: str
    suite: str
    """The suite's name below `evals/`."""
    path: str
    """The suite's file."""
    local: bool
    """It computes on this machine: such jobs go one after the other."""
    queued: float
    """When it was asked for, in seconds since 1970."""
    host: str
    pid: int = 0
    created: float = 0.0
    """When its process started, which tells it from a later one of the same id."""
    run: str | None = None
    """Its run in the store, once that is known."""
    resume: bool = False
    """It takes `run` up again."""
    stop_asked: bool = False


def start_job(project: Project, suite: str, *, local: bool, store: str | None = None, resume: str | None = None) -> Job:
    """Starts the run of a suite, or takes up the run `resume`; returns as soon as its process is there.

    `store` is a URL in place of the project's. Raises UnknownName where there is no such suite, UseError where it
    lies outside `evals/`, is being run, or the project's folder can't be written.
    """
    path = find_suite(suite, project).resolve()
    evals = project.evals_root.resolve()
    if not path.is_relative_to(evals):
        raise UseError(f"'{suite}' lies outside {evals}; only suites there are run from here")
    name = path.relative_to(evals).with_suffix("").as_posix()
    with _only_one(project) as folder:
        jobs = list_jobs(project)
        for job in jobs:
            if job.path == str(path) and state(job) != "ended":
                raise UseError(f"suite '{name}' is being run by process {job.pid}; stop it, or wait for its end")
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        job = Job(f"{stamp}-{secrets.token_hex(2)}", name, str(path), local, time.time(), socket.gethostname())
        job = replace(job, run=resume, resume=resume is not None)
        job = _started(project, folder, job, store if store != project.store_url else None)
        gone = [old for old in jobs if state(old) == "ended"]
        earlier = [old for old in gone if resume is not None and old.run == resume]
        for old in {*gone[KEPT:], *earlier}:
            for ending in ("json", "log"):
                (folder / f"{old.id}.{ending}").unlink(missing_ok=True)
    return job


def list_jobs(project: Project) -> list[Job]:
    """The project's jobs, the newest first; what can't be read as one is left out."""
    found = []
    with suppress(UseError):
        for file in _folder(project, make=False).glob("*.json"):
            with suppress(OSError, ValueError, TypeError):
                found.append(Job(**json.loads(file.read_text("utf-8"))))
    return sorted(found, key=lambda job: (job.queued, job.id), reverse=True)


def state(job: Job) -> State:
    """What the job's process does now."""
    process = _process(job)
    if process is None:
        return "ended"
    if job.stop_asked:
        return "stopping"
    with suppress(psutil.Error):
        return "waiting" if MODULE in process.cmdline() else "running"
    return "ended"


def stop_job(project: Project, job: Job) -> None:
    """Asks the job to end: what was answered is kept, and the run can be taken up again. The second time it ends
    at once. Raises UseError where it has ended, or its process id belongs to another process by now."""
    process = _process(job)
    if process is None:
        raise UseError(f"the job of suite '{job.suite}' has ended already")
    with _only_one(project) as folder:
        _write(folder, replace(_read(folder, job), stop_asked=True))
    try:
        process.send_signal(signal.SIGINT)  # psutil looks once more whether the process is still the same
    except psutil.Error as error:
        raise UseError(f"the job of suite '{job.suite}' has ended already") from error


def note_run(project: Project, job: Job, run: str) -> Job:
    """Remembers which run of the store is the job's."""
    with _only_one(project) as folder:
        job = replace(_read(folder, job), run=run)
        _write(folder, job)
    return job


def log_end(project: Project, job: Job) -> str:
    """The last lines that the job's process wrote."""
    try:
        with (_folder(project, make=False) / f"{job.id}.log").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _process(job: Job) -> psutil.Process | None:
    """The job's process where it is alive and the same."""
    if job.host != socket.gethostname():
        return None
    try:
        process = psutil.Process(job.pid)
        same = abs(process.create_time() - job.created) < SAME_START_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, ValueError):
        return None


def _started(project: Project, folder: Path, job: Job, store: str | None) -> Job:
    """The job with its process, which waits for its file."""
    command = [sys.executable, "-P", "-m", "workbench", "--project", str(project.root.absolute())]
    command += [f"--store={store}"] if store else []
    command += ["run", "--quiet", *([f"--resume={job.run}"] if job.resume else []), "--", job.path]
    wait = [sys.executable, "-P", "-m", MODULE, str(folder / f"{job.id}.json"), *command]
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        log = os.open(folder / f"{job.id}.log", flags, 0o600)
    except OSError as error:
        raise UseError(f"{folder} can't be written: {error.strerror}") from error
    with os.fdopen(log, "wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            wait, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=project.root
        )
    Thread(target=process.wait, daemon=True).start()  # so that it is no zombie when it ends before us
    try:
        created = psutil.Process(process.pid).create_time()
    except psutil.Error:
        created = time.time()
    job = replace(job, pid=process.pid, created=created)
    _write(folder, job)
    return job


def _folder(project: Project, make: bool = True) -> Path:
    return state_folder(project.root, "jobs", make)


@contextmanager
def _only_one(project: Project) -> Iterator[Path]:
    """The jobs' folder, for one writer at a time."""
    folder = _folder(project)
    with _opened(folder / "writer.lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield folder


def _opened(path: Path) -> IO[str]:
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+")
    except OSError as error:
        raise UseError(f"{path} can't be written: {error.strerror}") from error


def _read(folder: Path, job: Job) -> Job:
    """The job as its file is now: another page may have changed it."""
    with suppress(OSError, ValueError, TypeError):
        return Job(**json.loads((folder / f"{job.id}.json").read_text("utf-8")))
    return job


def _write(folder: Path, job: Job) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, prefix=".job-", delete=False) as file:
        file.write(json.dumps(asdict(job)))
    Path(file.name).replace(folder / f"{job.id}.json")


def _wait_and_run(file: Path, command: list[str]) -> None:
    """The job's process: waits for its turn, then becomes the run."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job that waits has nothing to give back
    while not file.exists():
        time.sleep(LOOK_SECONDS / 10)
    job = Job(**json.loads(file.read_text("utf-8")))
    if job.local:
        while _earlier(file.parent, job):
            time.sleep(LOOK_SECONDS)
        turn = _opened(file.parent / "turn.lock")  # for two that did not see each other
        fcntl.flock(turn, fcntl.LOCK_EX)
        os.set_inheritable(turn.fileno(), True)
    os.execv(command[0], command)  # noqa: S606 - the command that `start_job` made


def _earlier(folder: Path, job: Job) -> bool:
    """Whether a local job that was asked for before is alive."""
    for file in folder.glob("*.json"):
        with suppress(OSError, ValueError, TypeError):
            other = Job(**json.loads(file.read_text("utf-8")))
            if other.local and (other.queued, other.id) < (job.queued, job.id) and state(other) != "ended":
                return True
    return False


if __name__ == "__main__":
    _wait_and_run(Path(sys.argv[1]), sys.argv[2:])
