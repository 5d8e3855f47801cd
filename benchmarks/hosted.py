"""Hosted calls, measured side by side: ideal time over actual time, and CPU per call.

Ours is a whole run (`run_suite`: plan, calls, store with each answer committed, a scorer). Beside it, bare
aiohttp and the openai SDK's `create` on its aiohttp transport only call. The loopback server is a process of
its own and answers after 200 ms; each contender is a process of its own, too, in alternating order, and the
ratio to bare aiohttp is taken within each round. Then, without any setting, a limit of 600 requests a minute.

    python benchmarks/hosted.py [--quick] [--limit-only] [--promptfoo PROGRAM] [--inspect PYTHON]

promptfoo and Inspect AI, each installed in a folder of its own (`npm install promptfoo`; `pip install inspect-ai
openai` in another environment), ask and score the same questions, with their caches and network extras off. What
promptfoo takes for a single question is taken off its time, as imports are off the others'.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

LATENCY = 0.2
ROUNDS = 3
SIZES = ((2000, 50), (4000, 200))
QUICK = ((300, 50), (800, 200))
PER_MINUTE = 600
LIMIT_SECONDS, SETTLED = 150, 30
QUESTION = "Is this a friendly sentence or not? Answer in one word. Sentence number {} is here."
BODY = {"model": "m", "temperature": 0.5, "max_tokens": 8}


def ask_by_aiohttp(url: str, calls: int, at_once: int) -> None:
    import aiohttp

    async def main() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def ask(text: str) -> str:
                body = {**BODY, "messages": [{"role": "user", "content": text}]}
                async with session.post(f"{url}/chat/completions", json=body) as response:
                    return str((await response.json())["choices"][0]["message"]["content"])

            await _pool(calls, at_once, ask)

    asyncio.run(main())


def ask_by_sdk(url: str, calls: int, at_once: int) -> None:
    import openai

    async def main() -> None:
        http = openai.DefaultAioHttpClient()
        async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=http) as client:

            async def ask(text: str) -> str:
                messages: Any = [{"role": "user", "content": text}]
                answer = await client.chat.completions.create(**BODY, messages=messages)
                return str(answer.choices[0].message.content)

            await _pool(calls, at_once, ask)

    asyncio.run(main())


async def _pool(calls: int, at_once: int, ask: Callable[[str], Awaitable[str]]) -> None:
    left = iter(range(calls))

    async def worker() -> None:
        for number in left:
            await ask(QUESTION.format(number))

    await asyncio.gather(*(worker() for _ in range(at_once)))


@contextmanager
def project(url: str, calls: int, at_once: int | None) -> Iterator[Path]:
    """A project whose one suite asks so many questions."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        limits = f", limits: {{concurrency: {at_once}}}" if at_once else ""
        files = {
            "prompts/ask.prompty": "user:\n" + QUESTION.format("{{ number }}"),
            "workbench.yaml": f"models:\n  house: {{engine: openai, model: m, base_url: '{url}'{limits}}}\n",
            "evals/s.yaml": "name: s\nprompts: [ask]\nmodels: [house]\nparams: {temperature: 0.5, max_tokens: 8}\n"
            "cases: data.jsonl\nscorers: [contains]\n",
            "data.jsonl": "".join(
                json.dumps({"id": str(number), "number": number, "expected": "this"}) + "\n" for number in range(calls)
            ),
        }
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        yield root


def run_ours(root: Path, seconds: float | None = None) -> tuple[float, float, Any]:
    """Seconds and CPU seconds of a run, stopped after `seconds`; and its engine."""
    from threading import Event, Timer

    from workbench.define.library import Library
    from workbench.define.project import load_project
    from workbench.define.suite import load_suite
    from workbench.evaluate import run_suite
    from workbench.prepare import prepare_suite
    from workbench.store.database import Database

    opened = load_project(root)
    suite = load_suite(root / "evals/s.yaml", opened, Library(opened.library_root))
    prepared = prepare_suite(suite, root)
    database = Database.open(opened.store_url)
    stop = Event()
    timer = Timer(seconds, stop.set) if seconds else None
    if timer:
        timer.start()
    started, cpu = time.perf_counter(), _cpu()
    progress, _ = run_suite(prepared, database, stop=stop)
    taken = time.perf_counter() - started, _cpu() - cpu
    database.close()
    assert progress.failed == 0 and (seconds or progress.done == len(suite.cases))
    return *taken, prepared.engines["house"]


def ask_by_promptfoo(program: str, url: str, calls: int, at_once: int) -> dict[str, float]:
    """A whole `promptfoo eval`, less one of a single question."""
    whole, single = (_promptfoo(program, url, number, at_once) for number in (calls, 1))
    return {name: whole[name] - single[name] for name in whole}


def _promptfoo(program: str, url: str, calls: int, at_once: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = {
            "prompts": [QUESTION.format("{{number}}")],
            "providers": [
                {"id": "openai:chat:m", "config": {"apiBaseUrl": url, "temperature": 0.5, "max_tokens": 8}},
            ],
            "tests": [
                {"vars": {"number": number}, "assert": [{"type": "contains", "value": "this"}]}
                for number in range(calls)
            ],
        }
        (root / "promptfooconfig.json").write_text(json.dumps(config))
        off = ("DISABLE_TELEMETRY", "DISABLE_UPDATE", "DISABLE_REMOTE_GENERATION", "DISABLE_SHARING", "CACHE_ENABLED")
        environment = {f"PROMPTFOO_{name}": "false" if name == "CACHE_ENABLED" else "1" for name in off}
        command = [program, "eval", "--no-cache", "--no-progress-bar", "--no-table", "-j", str(at_once), "-o", "o.json"]
        started, before = time.perf_counter(), _cpu(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*command, "-c", "promptfooconfig.json"],
            cwd=root,
            env={**os.environ, **environment, "OPENAI_API_KEY": "none", "PROMPTFOO_CONFIG_DIR": folder},
            capture_output=True,
            text=True,
        )
        taken = {"seconds": time.perf_counter() - started, "cpu": _cpu(resource.RUSAGE_CHILDREN) - before}
        if not (root / "o.json").exists():
            raise SystemExit(f"promptfoo: {done.stderr or done.stdout}")
        counts = json.loads((root / "o.json").read_text())["results"]["stats"]
        assert counts["successes"] + counts["failures"] == calls and not counts["errors"], counts
        return taken


def ask_by_inspect(python: str, url: str, calls: int, at_once: int) -> dict[str, float]:
    """An Inspect AI task of the same questions, timed by its own process without imports."""
    with tempfile.TemporaryDirectory() as folder:
        told = json.dumps({"url": url, "calls": calls, "at_once": at_once, "question": QUESTION, "logs": folder})
        environment = {**os.environ, "OPENAI_API_KEY": "none", "INSPECT_EVAL_LOG_FILE_PATTERN": "log"}
        script = Path(__file__).with_name("_inspect_task.py")
        done = subprocess.run(
            [python, str(script), told], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(f"Inspect AI: {done.stderr or done.stdout}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def contend(name: str, url: str, calls: int, at_once: int) -> dict[str, float]:
    """What a process of its own does: one contender's calls, timed without its imports."""
    import aiohttp  # noqa: F401
    import openai  # noqa: F401

    if name == "ours":
        with project(url, calls, at_once) as root:
            seconds, cpu, _ = run_ours(root)
        return {"seconds": seconds, "cpu": cpu}
    started, before = time.perf_counter(), _cpu()
    {"aiohttp": ask_by_aiohttp, "create": ask_by_sdk}[name](url, calls, at_once)
    return {"seconds": time.perf_counter() - started, "cpu": _cpu() - before}


def _cpu(who: int = resource.RUSAGE_SELF) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


@contextmanager
def server(script: str) -> Iterator[str]:
    """The loopback server in a process of its own; gives its address."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script.yaml"
        path.write_text(script)
        command = [sys.executable, "-m", "workbench", "serve-fake", "--script", str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait()


Rivals = dict[str, Callable[[str, int, int], dict[str, float]]]


def side_by_side(sizes: tuple[tuple[int, int], ...], rounds: int, rivals: Rivals) -> None:
    names = ["aiohttp", "ours", "create", *rivals]
    for calls, at_once in sizes:
        ideal = calls * LATENCY / at_once
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        with server(f"latency: {{seconds: {LATENCY}}}") as url:
            for number in range(rounds):
                for name in names if number % 2 == 0 else reversed(names):
                    if name in rivals:
                        found[name].append(rivals[name](url, calls, at_once))
                        continue
                    command = [sys.executable, __file__, "--contender", name, url, str(calls), str(at_once)]
                    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
                    found[name].append(json.loads(done.stdout))
        print(f"{calls} calls at {LATENCY * 1000:.0f} ms, {at_once} at a time; ideal {ideal:.1f} s")
        for name in names:
            ratios = [bare["seconds"] / own["seconds"] for bare, own in zip(found["aiohttp"], found[name], strict=True)]
            seconds = statistics.median(own["seconds"] for own in found[name])
            cpu = statistics.median(own["cpu"] for own in found[name]) / calls * 1000
            print(
                f"  {name:<10}{seconds:7.2f} s   ideal/actual {ideal / seconds:.2f}   of aiohttp "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})   CPU {cpu:.2f} ms a call"
            )


def under_a_limit(seconds: float) -> None:
    """600 requests a minute and nothing set; the server allows a minute's worth at once at first."""
    script = (
        f"latency: {{kind: lognormal, seconds: {LATENCY}, spread: 0.5}}\nlimits: {{requests_per_minute: {PER_MINUTE}}}"
    )
    calls = int(PER_MINUTE * (1 + seconds / 60)) + 500
    with server(script) as url, project(url, calls, None) as root:
        marks: list[dict[str, Any]] = []
        from threading import Timer

        timer = Timer(SETTLED, lambda: marks.append(_counts(url)))
        timer.start()
        taken, _, engine = run_ours(root, seconds)
        timer.cancel()
        early, late = marks[0], _counts(url)
    answered = late["statuses"].get("200", 0) - early["statuses"].get("200", 0)
    refused = late["statuses"].get("429", 0) - early["statuses"].get("429", 0)
    allowed = PER_MINUTE / 60 * (taken - SETTLED)
    print(f"{PER_MINUTE} requests a minute, nothing set, {taken:.0f} s; after the first {SETTLED} s:")
    print(
        f"  {answered} answered, {answered / allowed:.3f} of what refills; {refused} refused "
        f"({refused / max(1, answered + refused):.2%}); before: {early['statuses']}"
    )
    for change in engine.history():
        print(f"    {change.at:7.2f} s  window {change.window:5.1f}  pace {change.pace or 0:6.2f}/s  {change.reason}")


def _counts(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/_calls") as answer:
        counts: dict[str, Any] = json.load(answer)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer calls, one round, for development")
    parser.add_argument("--limit-only", action="store_true", help="only the limit of 600 a minute")
    parser.add_argument("--promptfoo", metavar="PROGRAM", help="promptfoo's program, measured too")
    parser.add_argument("--inspect", metavar="PYTHON", help="a Python that has inspect-ai and openai, measured too")
    parser.add_argument("--contender", nargs=4, metavar=("NAME", "URL", "CALLS", "AT_ONCE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        name, url, calls, at_once = options.contender
        print(json.dumps(contend(name, url, int(calls), int(at_once))))
        return
    rivals: Rivals = {}
    if options.promptfoo:
        rivals["promptfoo"] = partial(ask_by_promptfoo, options.promptfoo)
    if options.inspect:
        rivals["Inspect AI"] = partial(ask_by_inspect, options.inspect)
    if not options.limit_only:
        side_by_side(QUICK if options.quick else SIZES, 1 if options.quick else ROUNDS, rivals)
    under_a_limit(45 if options.quick else LIMIT_SECONDS)


if __name__ == "__main__":
    main()
