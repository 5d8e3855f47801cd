"""Workbench: prompts and models, swept, scored, compared and kept.

The map, in the order in which the data flows; folders are the stages, files beside them are shared.

    begin.py         a run's header and plan, written before anything is asked
    cli/             a command parses, calls one function, prints
    errors.py        every error a user can meet
    evaluate.py      the whole path on one page
    models.py        aliases to open models; what is known of each
    prepare.py       a suite made ready: models and scorers opened, checked, planned
    records.py       the plain records that the stages speak
    registry.py      one shape for every extension point
    scoring.py       outputs to scores, while a run goes or later
    define/          what is asked        prompts, suites, cases, sweeps
    engines/         who answers          echo, llama.cpp in process, any OpenAI-compatible address
    loopback/        a server that speaks like OpenAI's, for tests and trials
    run/             trials to outputs    plan, reuse, send
    scorers/         outputs to scores
    stats/           scores to claims     means, intervals, paired differences
    store/           keeps runs           SQLite by default
    views/           what people read     terminal, files, screens
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Library": "workbench.define.library",
    "load_suite": "workbench.define.suite",
    "run_suite": "workbench.evaluate",
    "prepare_suite": "workbench.prepare",
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
