"""How long runs bear up: memory, store and `show` over 100,000 trials; repeated calls of a run killed 20 times.

The long run asks `echo` (no server beside it): two variants, each case asked twice, one scorer; a process of its
own, whose resident memory is sampled. The killed run asks the loopback server in this process. Each kill is a
SIGKILL at a random moment; "in flight" is what the server was asked and the store had not, when it was dead.

    python benchmarks/hosted_durable.py [--trials 100000] [--kills 20]
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from workbench.loopback import Latency, Script, serve

SUITE = """
name: many
prompts: [ask]
models: [{model}]
params: {{temperature: {temperatures}, max_tokens: 16}}
repeats: 2
cases: {{file: data/cases.jsonl}}
scorers: [contains]
"""
MODELS = """
models:
  house: {engine: openai, model: m, base_url: URL, price: {input: 1, output: 2}, limits: {concurrency: 24}}
"""
PROMPT = "user:\nIs this a friendly sentence or not? Answer in one word. Sentence number {{ number }} is here."
MEMORY_MIB, SHOW_SECONDS = 400, 2.0
SAMPLE_SECONDS = 0.25


def project(root: Path, cases: int, *, model: str, temperatures: str, url: str = "") -> None:
    rows = (json.dumps({"id": f"c{i}", "number": i, "expected": str(i) if i % 3 else "none"}) for i in range(cases))
    for name, text in {
        "prompts/ask.prompty": PROMPT,
        "evals/many.yaml": SUITE.format(model=model, temperatures=temperatures),
        "workbench.yaml": MODELS.replace("URL", url) if url else "models: {}\n",
        "data/cases.jsonl": "\n".join(rows) + "\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def command(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "workbench", "--project", str(root), *arguments]


def rows_in(store: Path, query: str) -> int:
    if not store.exists():
        return 0
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=30) as connection:
        try:
            return int(connection.execute(query).fetchone()[0])
        except sqlite3.OperationalError:  # no table yet
            return 0


def long_run(trials: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        project(root, trials // 4, model="echo", temperatures="[0.3, 0.7]")
        store = root / ".workbench/runs.db"
        started, samples = time.monotonic(), []
        with subprocess.Popen(command(root, "run", "many", "--quiet"), stdout=subprocess.DEVNULL) as process:
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                samples.append(watched.memory_info().rss / 2**20)
                time.sleep(SAMPLE_SECONDS)
        seconds = time.monotonic() - started
        samples = [mib for mib in samples if mib]
        answered = rows_in(store, "SELECT count(*) FROM trials WHERE output IS NOT NULL")
        size = sum(file.stat().st_size for file in store.parent.glob("runs.db*"))
        quarters = [samples[len(samples) * i // 4 : len(samples) * (i + 1) // 4] for i in range(4)]
        memory = [statistics.median(quarter) for quarter in quarters]
        print(f"{answered:,} of {trials:,} trials in {seconds:.0f} s ({answered / seconds:.0f}/s)")
        print("resident memory, median of each quarter: " + ", ".join(f"{mib:.0f}" for mib in memory), end=" MiB; ")
        print(f"at most {max(samples):.0f} MiB (bar: {MEMORY_MIB})")
        print(f"store: {size / 2**20:.1f} MiB, {size / trials:.0f} bytes a trial")
        shows = []
        for _ in range(3):
            began = time.monotonic()
            subprocess.run(command(root, "show", "latest"), check=True, stdout=subprocess.DEVNULL)
            shows.append(time.monotonic() - began)
        print(f"`workbench show`: {', '.join(f'{s:.2f}' for s in shows)} s (bar: {SHOW_SECONDS:g})")
    return answered == trials and max(samples) < MEMORY_MIB and statistics.median(shows) < SHOW_SECONDS


def killed_run(kills: int, trials: int = 2000) -> bool:
    chance = random.Random(1)
    in_flight: list[int] = []
    with serve(Script(latency=Latency("lognormal", 0.02, 0.4))) as server, tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        project(root, trials // 2, model="house", temperatures="0.5", url=server.url)
        store = root / ".workbench/runs.db"
        resume: tuple[str, ...] = ()
        for _ in range(kills):
            moment = server.books.answered + chance.randint(5, trials // kills - 20)
            with subprocess.Popen(command(root, "run", "many", "--quiet", *resume)) as process:
                wait_until(lambda moment=moment: server.books.answered >= moment)
                time.sleep(chance.uniform(0, 0.03))
                process.send_signal(signal.SIGKILL)
            wait_until(lambda: server.books.busy == 0)
            in_flight.append(server.books.distinct - rows_in(store, "SELECT count(DISTINCT request) FROM outputs"))
            resume = ("--resume", "latest")
        subprocess.run(command(root, "run", "many", "--quiet", *resume), check=True, stdout=subprocess.DEVNULL)
        repeated = server.books.calls.total() - server.books.distinct
        outputs = rows_in(store, "SELECT count(*) FROM outputs")
        answered = rows_in(store, "SELECT count(*) FROM trials WHERE output IS NOT NULL")
    print(f"{kills} kills in {trials:,} trials: {sum(in_flight)} in flight at the kills, {repeated} calls repeated")
    print(f"in flight at each kill: {in_flight}; {answered:,} trials answered by {outputs:,} outputs")
    return repeated <= sum(in_flight) and outputs == answered == trials


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit("it did not happen within two minutes")
        time.sleep(0.005)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    given = parser.parse_args()
    held = [long_run(given.trials)] if given.trials else []
    held += [killed_run(given.kills)] if given.kills else []
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
