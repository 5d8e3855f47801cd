"""Runs as tidy pandas frames: `workbench.load_runs`.

One row a trial. Columns:

    run, suite, stage, started      the run; `started` is a time in UTC
    variant, prompt, revision, model, case, cluster, repeat, trial     what was asked of whom; `variant` is the label
    params.NAME, vars.NAME          the variant's parameters and template inputs
    input.NAME, expected            the case
    quarantined                     whether the case is left out of all numbers, so that means of yours can leave it out
    output, finish_reason, failure  the answer's text; None, `failed` and the kind of failure where there is none
    prompt_tokens, output_tokens, seconds, first_token_seconds, cost    cost in US dollars; missing means unknown
    score.NAME                      a number, or text for labels; missing means unscored
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.define.project import Project, load_project
from workbench.errors import UseError
from workbench.records import Json, canonical
from workbench.store import runs as stored
from workbench.store.database import Database

if TYPE_CHECKING:
    import pandas as pd

WHOLE = ("repeat", "prompt_tokens", "output_tokens")
FRACTIONS = ("seconds", "first_token_seconds", "cost")


def load_runs(
    source: str | Path | Project | Database | None = None,
    runs: str | Sequence[str] | None = None,
    *,
    suite: str | None = None,
) -> pd.DataFrame:
    """The trials of runs as a frame, one row each.

    `source` is a project (or its folder; default: the one around the working directory), a store's URL, or an open
    store. `runs` are ids, their beginnings or `latest`; default: all, of one suite where that is named. The newest run
    comes first. Raises UnknownName, StoreError, UseError.
    """
    database = source if isinstance(source, Database) else _opened(source)
    try:
        with database.read() as connection:
            asked = [runs] if isinstance(runs, str) else runs
            if asked is None:
                chosen = stored.list_runs(connection, suite)
            else:
                chosen = [run for run in (stored.get_run(connection, r) for r in asked) if suite in (None, run.suite)]
            rows = [row for run in chosen for row in _rows(connection, run)]
    finally:
        if database is not source:
            database.close()
    return _frame(rows)


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Writes a frame; raises UseError where that can't be done."""
    try:
        frame.to_parquet(path, index=False)
    except OSError as error:
        raise UseError(f"{path} can't be written: {error.strerror or error}; name another file with --out") from error


def _opened(source: str | Path | Project | None) -> Database:
    if isinstance(source, str) and "://" in source:
        return Database.open(source)
    project = source if isinstance(source, Project) else load_project(None if source is None else Path(source))
    return Database.open(project.store_url)


def _rows(connection: Any, run: Any) -> list[dict[str, Json]]:
    variants = {v.id: v for v in stored.run_variants(connection, run.id)}
    clusters = stored.run_clusters(connection, run.id)
    about = {"run": run.id, "suite": run.suite, "stage": run.stage, "started": run.started}
    return [about | _row(row, variants[row.variant_id], clusters) for row in stored.trial_rows(connection, run.id)]


def _row(row: stored.TrialRow, variant: stored.VariantRow, clusters: dict[str, str | None]) -> dict[str, Json]:
    output = row.output
    failed = output is not None and output.failure is not None
    cells: dict[str, Json] = {
        "variant": variant.label, "prompt": variant.prompt, "revision": variant.revision, "model": variant.model,
        "case": row.case_id, "cluster": clusters.get(row.case_id), "repeat": row.repeat, "trial": row.trial_id,
        **{f"params.{n}": _cell(v) for n, v in variant.settings["params"].items()},
        **{f"vars.{n}": _cell(v) for n, v in variant.settings["vars"].items()},
        **{f"input.{n}": _text(v) for n, v in row.inputs.items()},
        "expected": _text(row.expected),
        "quarantined": row.quarantined,
        "output": None if output is None or failed else output.text,
        "finish_reason": output.finish_reason if output else None,
        "failure": output.failure.kind if output and output.failure else None,
    }  # fmt: skip
    for name in ("prompt_tokens", "output_tokens", *FRACTIONS):
        cells[name] = getattr(output, name) if output else None
    return cells | {f"score.{s.scorer}": s.value for s in row.scores}


def _cell(value: Json) -> Json:
    return canonical(value) if isinstance(value, (list, dict)) else value


def _text(value: Json) -> str | None:
    """A case's value as text, so that a column has one type: text as it is, all else as JSON."""
    return value if value is None or isinstance(value, str) else canonical(value)


def _frame(rows: list[dict[str, Json]]) -> pd.DataFrame:
    import pandas as pd

    groups = ("params.", "vars.", "input.", "score.")
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["run", "suite", "stage", "started"]
    scores = [name for name in names if name.startswith("score.")]
    names = [name for name in names if name not in scores] + scores
    columns: dict[str, Any] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if name == "started":
            columns[name] = pd.to_datetime(pd.Series(values, dtype="object"), utc=True, format="ISO8601")
        elif name == "quarantined":
            columns[name] = pd.array(values, dtype="boolean")
        elif name in WHOLE:
            columns[name] = pd.array(values, dtype="Int64")
        elif name in FRACTIONS or (name.startswith(groups) and all(_number(v) for v in values)):
            columns[name] = pd.array(values, dtype="Float64")
        else:
            texts = [v if v is None or isinstance(v, str) else canonical(v) for v in values]
            columns[name] = pd.array(texts, dtype="string")
    return pd.DataFrame(columns)


def _number(value: Json) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
