"""Who answers in benchmarks/local_sweep.py, each in a process of its own: `run(job)` starts one.

A job is a JSON object on stdin, the result one on stdout. Weights are loaded and everything is warmed up
before the clock starts. Where a fixed length is asked (`new`), nobody stops at an end-of-answer token:

- ours by `logit_bias` -inf on those tokens, through the engine's public door (which costs it its short
  list of candidates: a biased chain looks at the whole vocabulary);
- llama.cpp's server by its `ignore_eos`, which is the same bias;
- `create_completion` by taking such a token like any other, since its own `logit_bias` is a Python loop
  over the vocabulary that would slow it down.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import _limits
import psutil

from workbench.engines.llama import LlamaEngine, engine
from workbench.engines.llama.context import Context, Shape
from workbench.records import Message, Model, Output, Request

Job = Mapping[str, Any]
Result = dict[str, Any]

WARM_UP = "Say a few words before we begin."


def run(kind: str, job: Job, environment: Mapping[str, str] | None = None) -> Result:
    """Answers a job in a fresh process; raises RuntimeError with what the process said where it failed."""
    done = subprocess.run(
        [sys.executable, __file__, kind],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        raise RuntimeError(f"{kind} failed: {done.stderr.strip()[-2000:]}")
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


class Row:
    """`engines.base.Requests` over a list."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._left = list(requests)
        self.largest = 0
        """The most requests that were taken at once."""

    def take(self, at_most: int, wait: float) -> list[Request]:
        taken, self._left = self._left[:at_most], self._left[at_most:]
        self.largest = max(self.largest, len(taken))
        return taken

    def cancelled(self) -> set[str]:
        return set()

    @property
    def closed(self) -> bool:
        return not self._left


# The workbench


def ours(job: Job) -> Result:
    """Through the engine's public door, templating and tokenising included."""
    with _opened(job) as llama:
        requests = _requests(job, llama)
        before = llama.work()
        row, start = Row(requests), perf_counter()
        outputs = [event for event in llama.generate(row) if isinstance(event, Output)]
        seconds = perf_counter() - start
        work = {name: value - before[name] for name, value in llama.work().items()}
    failures = [output.failure for output in outputs if output.failure]
    if failures:
        raise SystemExit(f"{len(failures)} requests failed, the first: {failures[0]}")
    found = {o.request_id: [c["logprob"] for c in o.extra["choices"]] for o in outputs if "choices" in o.extra}
    return {
        "seconds": seconds,
        "answers": len(outputs),
        "new": sum(output.output_tokens or 0 for output in outputs),
        "work": work,
        "largest": row.largest,
        "choices": [found[request.id] for request in requests if request.id in found],
    }


def memory(job: Job) -> Result:
    """Resident memory that waiting requests take, from before they are taken to the first answer."""
    with _opened(job) as llama:
        requests = _requests(job, llama)
        row, process = Row(requests), psutil.Process()
        before = process.memory_info().rss
        events = llama.generate(row)
        next(events)
        taken = process.memory_info().rss - before
        events.close()  # type: ignore[attr-defined]
    return {"bytes": taken, "largest": row.largest}


@contextmanager
def _opened(job: Job) -> Iterator[LlamaEngine]:
    """The engine with its weights loaded; `branches` bounds the answers alive at once."""
    settings = {"path": job["model"], "threads": job["threads"], **job.get("settings", {})}
    with patch.object(engine, "BRANCHES", job.get("branches", engine.BRANCHES)):
        llama = LlamaEngine(Model("m", "llama", settings))
        warm = Request("warm", "m", (Message.of("raw", WARM_UP),), {"max_tokens": 4, "temperature": 1.0})
        for _ in llama.generate(Row([warm])):
            pass
        yield llama
        llama.close()


def _requests(job: Job, llama: LlamaEngine) -> list[Request]:
    fixed: dict[str, Any] = {} if job.get("new") is None else {"max_tokens": job["new"]}
    if job.get("unending"):
        ends = [token for token in range(llama.vocabulary.size) if llama.vocabulary.is_end(token)]
        fixed["logit_bias"] = [[token, False] for token in ends]
    return [
        Request(
            f"{number}",
            "m",
            tuple(Message.of(role, text) for role, text in ask["messages"]),
            {**ask["params"], **fixed},
            seed=ask["seed"],
            answer={"choices": ask["choices"]} if ask["choices"] else {},
        )
        for number, ask in enumerate(job["asks"])
    ]


# One at a time


def completion(job: Job) -> Result:
    """`llama_cpp.Llama.create_completion` in a loop; it keeps the prefix that neighbours share."""
    import llama_cpp

    llama = llama_cpp.Llama(
        job["model"],
        n_ctx=_room(job),
        n_threads=job["threads"],
        n_threads_batch=job["threads"],
        flash_attn=True,
        verbose=False,
    )
    llama.create_completion(WARM_UP, max_tokens=4)
    llama.reset()
    count = 0
    with patch.object(llama_cpp.llama_cpp, "llama_vocab_is_eog", lambda vocab, token: False):
        start = perf_counter()
        for ask in job["asks"]:
            answer: Any = llama.create_completion(
                ask["tokens"], max_tokens=job["new"], seed=ask["seed"], **ask["params"]
            )
            count += answer["usage"]["completion_tokens"]
        seconds = perf_counter() - start
    return {"seconds": seconds, "answers": len(job["asks"]), "new": count}


def choices_in_full(job: Job) -> Result:
    """Evaluates prompt and choice in full for each choice, as a plain loop over `llama_decode` would: the
    tokens of a pair in one batch, logits only where a token of the choice is read."""
    room = _room(job)
    context = Context(Path(job["model"]), Shape(room, min(512, room), job["threads"], 1))
    sums, evaluated = [], 0
    _score(context, job["asks"][0]["tokens"], job["asks"][0]["choice_tokens"][0])
    start = perf_counter()
    for ask in job["asks"]:
        sums.append([_score(context, ask["tokens"], choice) for choice in ask["choice_tokens"]])
        evaluated += sum(len(ask["tokens"]) + len(choice) - 1 for choice in ask["choice_tokens"])
    seconds = perf_counter() - start
    context.close()
    return {"seconds": seconds, "answers": len(sums), "evaluated": evaluated, "choices": sums}


def _score(context: Context, prompt: Sequence[int], choice: Sequence[int]) -> float:
    """The log-likelihood of a choice after its prompt, from an empty cache."""
    context.clear()
    tokens, total = [*prompt, *choice[:-1]], 0.0
    for start in range(0, len(tokens), context.batch):
        part = tokens[start : start + context.batch]
        wanted = [place >= len(prompt) - 1 for place in range(start, start + len(part))]
        entries = [context.add(t, p, 0, w) for p, (t, w) in enumerate(zip(part, wanted, strict=True), start)]
        context.decode()
        for place, entry, want in zip(range(start, start + len(part)), entries, wanted, strict=True):
            if want:
                total += float(context.row(entry).log_probabilities[choice[place - len(prompt) + 1]])
    return total


# llama.cpp's server


def server(job: Job) -> Result:
    """llama.cpp's own server in a process of its own, asked by as many clients at once as it has slots."""
    process = subprocess.Popen(
        [sys.executable, __file__, "serve", job["model"], str(job["slots"]), str(_room(job)), str(job["threads"])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = next((line.split()[1] for line in process.stdout if line.startswith("ready ")), None)
        if address is None:
            raise SystemExit("llama.cpp's server (xllamacpp) did not start")
        return _asked(job, address)
    finally:
        process.kill()
        process.wait()


def _asked(job: Job, address: str) -> Result:
    local = threading.local()

    def ask(body: str) -> int:
        if not hasattr(local, "connection"):
            local.connection = HTTPConnection(address, timeout=600)
        local.connection.request("POST", "/completion", body, {"Content-Type": "application/json"})
        answer = json.loads(local.connection.getresponse().read())
        return int(answer["tokens_predicted"])

    bodies = [
        json.dumps(
            {
                "prompt": ask["tokens"],
                "n_predict": job["new"],
                "seed": ask["seed"],
                "ignore_eos": True,
                "cache_prompt": True,
                **ask["params"],
            }
        )
        for ask in job["asks"]
    ]
    with ThreadPoolExecutor(job["slots"]) as pool:
        list(pool.map(ask, [json.dumps({"prompt": WARM_UP, "n_predict": 4})] * job["slots"]))
        start = perf_counter()
        counts = list(pool.map(ask, bodies))
        seconds = perf_counter() - start
    return {"seconds": seconds, "answers": len(counts), "new": sum(counts)}


def serve(model: str, slots: str, room: str, threads: str) -> None:
    """The server's process: says where it listens, ends with its stdin. Streams of its slots are separate,
    as on llama-server's command line with a given number of slots."""
    import xllamacpp  # type: ignore[import-untyped]

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_parallel = int(slots)
    params.n_ctx = int(room) * int(slots)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    params.verbosity = -1
    running = xllamacpp.Server(params)
    print("ready", running.listening_address.removeprefix("http://"), flush=True)
    sys.stdin.read()


def _room(job: Job) -> int:
    """Context that the longest ask needs, in steps of 256 tokens."""
    longest = max(
        len(ask["tokens"]) + max([job.get("new") or 0, *map(len, ask.get("choice_tokens", ()))]) for ask in job["asks"]
    )
    return max(256, -(-longest // 256) * 256)


KINDS = {
    "ours": ours,
    "memory": memory,
    "completion": completion,
    "choices in full": choices_in_full,
    "server": server,
    "decode": _limits.decode,
    "prompt": _limits.prompt,
}

if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        print(json.dumps(KINDS[sys.argv[1]](json.load(sys.stdin))))
