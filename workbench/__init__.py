"""Workbench: prompts and models, swept, scored, compared and kept.

The map, in the order in which the data flows; folders are the stages, files beside them are shared.

    api.py           the workbench from Python, a call a purpose
    authoring.py     prompts, cases and suites written for people, as they would write them
    asking.py        requests of scorers that ask models: looked up, asked, kept, counted
    begin.py         a run's header and plan, written before anything is asked
    checks.py        what checking a model found, kept for this machine
    cli/             a command parses, calls one function, prints
    errors.py        every error a user can meet
    evaluate.py      the whole path on one page
    flight.py        requests on their way: lined up, asked within budgets, committed
    jobs.py          runs in processes of their own: start, wait for a turn, stop
    models.py        aliases to open models; what is known of each
    play.py          the playground: what is on screen, asked while one looks
    prepare.py       a suite made ready: models and scorers opened, checked, planned
    pytest_plugin.py suites as pytest items, bounds in tests
    records.py       the plain records that the stages speak
    registry.py      one shape for every extension point
    scoring.py       outputs to scores, while a run goes or later
    spending.py      the project's budget, from which several processes spend
    stopping.py      whether there is a next block: until settled, races
    tracing.py       spans for OpenTelemetry, where its variables ask for them
    upkeep.py        a store taken in, and looked through
    batches/         runs whose answers come later: submitted now, collected another day
    define/          what is asked        prompts, suites, cases, sweeps
    engines/         who answers          echo, llama.cpp in process, any OpenAI-compatible address
    gates/           a stored run held against bounds, its reference or a baseline
    interop/         files of other tools, read and written
    judges/          scores by models, held against people's labels
    loopback/        a server that speaks like OpenAI's, for tests and trials
    retrieval/       passages looked up for each case, by words or by embeddings
    run/             trials to outputs    plan, reuse, send
    scorers/         outputs to scores
    stats/           scores to claims     means, intervals, paired differences
    store/           keeps runs           SQLite by default
    training/        answers worth learning from, as examples; cases that are held out
    views/           what people read     terminal, files, screens
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Library": "workbench.define.library",
    "render_prompt": "workbench.define.prompt",
    "load_suite": "workbench.api",
    "run_suite": "workbench.api",
    "compare_runs": "workbench.api",
    "check_gates": "workbench.api",
    "changed_since": "workbench.api",
    "Result": "workbench.api",
    "scorer": "workbench.scorers.registered",
    "engine": "workbench.engines.registered",
    "load_project": "workbench.define.project",
    "Overrides": "workbench.define.suite",
    "RunOptions": "workbench.begin",
    "prepare_suite": "workbench.prepare",
    "load_runs": "workbench.interop.frames",
    "Case": "workbench.records",
    "Message": "workbench.records",
    "Output": "workbench.records",
    "Judgement": "workbench.records",
    "WorkbenchError": "workbench.errors",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 - names are loaded when asked for


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'workbench' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
