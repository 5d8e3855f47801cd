"""How long the small things take: `--help`, importing the package, writing and reading the store.

Each figure is the median of several runs in fresh processes (start-up) or of several batches (store);
`python -c pass` is measured beside them, alternating, since the machine's speed drifts.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from workbench.records import Case, Message, Output, Request, Suite, Trial, Variant
from workbench.store import recording, runs
from workbench.store.database import Database

ROUNDS = 9
ROWS = 5_000
GROUP = 50

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import workbench": [sys.executable, "-c", "import workbench"],
    "workbench --help": [sys.executable, "-m", "workbench", "--help"],
    "workbench runs --help": [sys.executable, "-m", "workbench", "runs", "--help"],
    "workbench run --help": [sys.executable, "-m", "workbench", "run", "--help"],
}


def start_up() -> None:
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            taken[name].append(time.perf_counter() - start)
    for name, seconds in taken.items():
        print(f"{name:<24}{statistics.median(seconds) * 1000:8.0f} ms  (median of {ROUNDS})")


def store() -> None:
    """One run of ROWS trials: planned, each answer committed in groups, read back."""
    variant = Variant("p", "pr1-0", "echo", label="p")
    cases = tuple(Case(f"c{i}", {"text": f"a text of some words, number {i}"}) for i in range(ROWS))
    suite = Suite("bench", "prompt", (variant,), cases, (), {}, {})
    trials = [Trial(variant, case, 0) for case in cases]
    requests = [Request(f"rq1-{i}", "echo", (Message.of("user", str(c.inputs)),)) for i, c in enumerate(cases)]
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{folder}/runs.db")
        start = time.perf_counter()
        with database.write() as connection:
            plan = recording.Plan("pl1", [(t, r.id) for t, r in zip(trials, requests, strict=True)])
            recording.start_run(connection, "r1", suite, plan, {})
        planned = time.perf_counter()
        for i in range(0, ROWS, GROUP):
            answers = [(r, "id", Output(r.id, text="an answer of several words")) for r in requests[i : i + GROUP]]
            with database.write() as connection:
                recording.keep(connection, "r1", answers)
        kept = time.perf_counter()
        with database.read() as connection:
            read = sum(1 for _ in runs.trial_rows(connection, "r1"))
        done = time.perf_counter()
        database.close()
        size = sum(f.stat().st_size for f in Path(folder).iterdir())
    assert read == ROWS
    print(
        f"store: plan {ROWS / (planned - start):,.0f} trials/s, keep {ROWS / (kept - planned):,.0f} answers/s", end=""
    )
    print(f" ({GROUP} a commit), read {ROWS / (done - kept):,.0f}/s, {size / ROWS:,.0f} bytes a trial")


if __name__ == "__main__":
    start_up()
    store()
