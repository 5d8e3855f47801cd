"""The fields of a suite: prompts, models, parameters, cases with a look at their file, scorers, gates, budget.

A field shows what `SuiteForm` holds and gives back what stands in it now; nothing is kept here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import Field, fields, replace
from functools import partial
from typing import Any

import streamlit as st

from workbench.define.data import first_rows
from workbench.define.library import Library
from workbench.define.project import Project
from workbench.define.suite_form import OUTSIDE_SCORERS, GateFields, ScorerFields, SuiteForm, renamed
from workbench.errors import UseError, WorkbenchError
from workbench.records import STAGES, Json
from workbench.registry import SCORERS
from workbench.views import format as f
from workbench.views.screens.drafts import as_text
from workbench.views.screens.page import exports, literal
from workbench.views.screens.typed import PAUSE
from workbench.views.write import markdown_text

DATA_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
MOST_FILES = 500
"""In the list of data files; another is named in the YAML."""
PREVIEW_ROWS = 5
CELL_CHARS = 300
RULES = ("at_least", "at_most", "no_worse_than", "p50", "p90", "p95", "p99")


def suite_fields(project: Project, form: SuiteForm, version: str) -> SuiteForm:
    """The form's fields; `version` sets them back to what `form` holds where it changes."""
    form = _compared(project, form, version)
    form = _cases(project, form, version)
    form = replace(form, scorers=_scorers(form.scorers, version))
    return _bounds(form, version)


def _compared(project: Project, form: SuiteForm, version: str) -> SuiteForm:
    with st.container(border=True):
        st.markdown("**What is compared**")
        left, right = st.columns(2)
        prompts = left.multiselect(
            "Prompts", _with(Library(project.library_root, project.references).names(), form.prompts), form.prompts,
            key=f"prompts {version}", accept_new_options=True, help="Also NAME@LABEL and NAME@REVISION.",
        )  # fmt: skip
        models = right.multiselect(
            "Models", _with(project.models, form.models), form.models, key=f"models {version}", accept_new_options=True,
            help="Aliases of workbench.yaml, alias+q8_0, or engine:rest such as openai:gpt-5-mini.",
        )  # fmt: skip
        with left:
            params = _pairs(
                "Parameters", form.params, ("parameter", "values"), f"params {version}",
                "Several values make an axis: 0, 0.7 or 0..1 step 0.25.",
            )  # fmt: skip
        with right:
            vars_ = _pairs(
                "Template inputs that the sweep sets", form.vars, ("input", "values"), f"vars {version}",
                "Several values make an axis: plain, warm.",
            )  # fmt: skip
        first, second = st.columns(2)
        repeats = first.number_input(
            "Repeats of each case", 1, None, form.repeats, placeholder="1", key=f"repeats {version}"
        )
        stages = _with(STAGES, (form.stage,))
        stage = second.selectbox("Stage", stages, stages.index(form.stage), key=f"stage {version}")
    return replace(
        form, prompts=tuple(prompts), models=tuple(models), params=params, vars=vars_, repeats=repeats, stage=stage
    )


def _cases(project: Project, form: SuiteForm, version: str) -> SuiteForm:
    with st.container(border=True):
        st.markdown("**Cases**")
        files = ["", *_with(data_files(project), [form.file] if form.file else [])]
        file = st.selectbox(
            "File with the cases", files, files.index(form.file), key=f"file {version}",
            format_func=lambda name: name or "rows in the suite itself: see its YAML",
            help="JSONL, JSON, CSV, TSV or Parquet, inside the project.",
        )  # fmt: skip
        if not file:
            return replace(form, file="")
        names = _preview(project, file)
        given = {"expected": form.expected, "id": form.id, "cluster": form.cluster}
        limit: int | None
        found: dict[str, str] = {}
        *places, last = st.columns(4)
        for place, (role, label) in zip(places, _ROLES.items(), strict=True):
            options = ["", *_with(names, [given[role]] if given[role] else [])]
            found[role] = place.selectbox(
                label, options, options.index(given[role]), key=f"{role} {file} {version}",
                format_func=partial(_said, role, names),
            )  # fmt: skip
        limit = last.number_input(
            "At most so many cases", 1, None, form.limit, placeholder="all", key=f"limit {version}"
        )
        inputs = _mapping(project, form, names, version)
    form = replace(form, expected=found["expected"], id=found["id"], cluster=found["cluster"])
    return replace(form, file=file, limit=limit, inputs=inputs)


_ROLES = {"expected": "Expected answer", "id": "Name of a case", "cluster": "Rows that belong together"}


def _said(role: str, names: Sequence[str], name: str) -> str:
    unsaid = f"{role} (default)" if role in names else "hash of the row" if role == "id" else "none"
    return name or unsaid


def _preview(project: Project, file: str) -> list[str]:
    """Shows the file's first rows; the names of their fields."""
    try:
        rows = first_rows(file, project, PREVIEW_ROWS)
    except WorkbenchError as error:
        st.error(literal(str(error)))
        return []
    st.dataframe([{n: _cell(v) for n, v in row.items()} for row in rows], hide_index=True, width="stretch")
    exports(lambda: [{name: as_text(value) for name, value in row.items()} for row in rows], "cases", "These rows")
    return list(dict.fromkeys(name for row in rows for name in row))


def _cell(value: Json) -> str:
    return f.one_line(f.shorten(as_text(value), CELL_CHARS))


def _mapping(project: Project, form: SuiteForm, names: Sequence[str], version: str) -> tuple[tuple[str, str], ...]:
    """Which field stands for an input that the prompts want and no field is named after."""
    wanted: dict[str, None] = {}
    library = Library(project.library_root, project.references)
    for prompt in form.prompts:
        with suppress(UseError):
            wanted |= dict.fromkeys(i.name for i in library.find(prompt).inputs if i.required and i.default is None)
    given = dict(form.inputs)
    open_inputs = [name for name in wanted if name not in names and name not in dict(form.vars)]
    found = dict(given)
    for name in dict.fromkeys([*given, *open_inputs]) if names else ():
        options = ["", *_with(names, [given[name]] if name in given else [])]
        chosen = st.selectbox(
            f"Field for the input {literal(name)}", options, options.index(given.get(name, "")),
            key=f"input {name} {version}", format_func=lambda field: field or "none: choose one",
        )  # fmt: skip
        found = {**found, name: chosen} if chosen else {k: v for k, v in found.items() if k != name}
    return tuple(found.items())


def _scorers(given: tuple[ScorerFields, ...], version: str) -> tuple[ScorerFields, ...]:
    with st.container(border=True):
        st.markdown("**Scorers**")
        kept = []
        for i, scorer in enumerate(given):
            known = scorer.scorer in SCORERS.names()
            entry = renamed(scorer, SCORERS.get(scorer.scorer).shorthand if known else None)
            with st.expander(literal(scorer.name or scorer.scorer), expanded=len(given) < 3):
                entry = _settings(entry, f"{i} {version}") if known else entry
                if not known:
                    st.error(literal(f"there is no scorer '{scorer.scorer}'"))
                if st.button("Remove", key=f"remove {i} {version}"):
                    continue
            kept.append(scorer if entry == renamed(scorer, _shorthand(scorer)) else entry)
        added = st.selectbox(
            "Add a scorer",
            SCORERS.names(),
            None,
            key=f"add {version} {len(given)}",
            placeholder="choose one",
            width=320,
        )
        if added:
            kept.append(ScorerFields(added, _free_name(added, kept)))
    return tuple(kept)


def _shorthand(scorer: ScorerFields) -> str | None:
    short: str | None = SCORERS.get(scorer.scorer).shorthand if scorer.scorer in SCORERS.names() else None
    return short


def _free_name(scorer: str, others: Sequence[ScorerFields]) -> str:
    taken = {other.name or other.scorer for other in others}
    names = (f"{scorer}-{n}" for n in range(2, len(taken) + 3))
    return "" if scorer not in taken else next(name for name in names if name not in taken)


def _settings(given: ScorerFields, key: str) -> ScorerFields:
    """The settings of one scorer, each as the YAML that a suite holds for it."""
    factory = SCORERS.get(given.scorer)
    st.caption(markdown_text(" ".join((factory.__doc__ or "").split()).split(". ")[0].rstrip(".")))
    told = dict(given.settings)
    own = [x for x in fields(factory) if not x.metadata.get("project") and not x.metadata.get("desk")]
    labels = {x.name: _default(x) for x in own} | {"expected": "the case's own, or a template: '{{ label }}'"}
    labels |= {name: "" for name in told if name not in labels}
    places = st.columns(3)
    found = {}
    for i, (name, default) in enumerate(labels.items()):
        found[name] = places[i % 3].text_input(
            name, told.get(name, ""), placeholder=default, key=f"setting {name} {key}", live=PAUSE
        )
    name = places[len(labels) % 3].text_input(
        "name in this suite", given.name, placeholder=given.scorer, key=f"name {key}", live=PAUSE
    )
    order = [*told, *(name for name in labels if name not in told)]
    return replace(given, name=name, settings=tuple((n, found[n]) for n in order if found[n].strip()))


def _default(setting: Field[Any]) -> str:
    simple = isinstance(setting.default, (str, int, float, bool, list, tuple))
    return str(setting.default) if simple and setting.default != "" else ""


def _bounds(form: SuiteForm, version: str) -> SuiteForm:
    with st.container(border=True):
        st.markdown("**Gates and budget**")
        about = _with([s.name or s.scorer for s in form.scorers], OUTSIDE_SCORERS)
        rows = [{"about": g.about, "rule": g.rule, "bound": g.bound, "more": g.more} for g in form.gates]
        edited: Any = st.data_editor(
            rows or [dict.fromkeys(("about", "rule", "bound", "more"), "")], num_rows="dynamic", hide_index=True,
            width="stretch", key=f"gates {version}",
            column_config={
                "about": st.column_config.SelectboxColumn(options=_with(about, [g.about for g in form.gates])),
                "rule": st.column_config.SelectboxColumn(options=_with(RULES, [g.rule for g in form.gates])),
                "bound": st.column_config.TextColumn(help="A number; for no_worse_than: baseline or reference."),
                "more": st.column_config.TextColumn(help="Further keys, such as margin: 0.02, confidence: 0.9"),
            },
        )  # fmt: skip
        columns = ("about", "rule", "bound", "more")
        gates = tuple(GateFields(*(str(row.get(name) or "") for name in columns)) for row in edited)
        gates = tuple(gate for gate in gates if gate != GateFields("", "", ""))
        if gates:
            exports(lambda: [{name: getattr(gate, name) for name in columns} for gate in gates], "gates", "Gates")
        left, right = st.columns(2)
        cost = left.number_input(
            "Budget in US dollars", 0.0, None, form.cost, placeholder="no limit", key=f"cost {version}"
        )
        time = right.text_input(
            "Budget of time", form.time, placeholder="no limit; such as 30m", key=f"time {version}", live=PAUSE
        )
    return replace(form, gates=gates, cost=cost or None, time=time)


def _pairs(
    label: str, given: Sequence[tuple[str, str]], names: tuple[str, str], key: str, hint: str
) -> tuple[tuple[str, str], ...]:
    """A table of two columns; rows without a name are left out."""
    st.caption(f"{label}. {hint}")
    first, second = names
    rows = [{first: name, second: text} for name, text in given] or [dict.fromkeys(names, "")]
    edited: Any = st.data_editor(
        rows, num_rows="dynamic", hide_index=True, width="stretch", key=key,
        column_config={name: st.column_config.TextColumn() for name in names},
    )  # fmt: skip
    pairs = [(str(row.get(first) or "").strip(), str(row.get(second) or "")) for row in edited]
    named = tuple((name, text) for name, text in pairs if name)
    if named:
        exports(lambda: [dict(zip(names, pair, strict=True)) for pair in named], f"{first}s", label)
    return named


def data_files(project: Project) -> list[str]:
    """Files of the project that can hold cases, from its folder on."""
    found: list[str] = []
    for folder, inner, files in os.walk(project.root):
        inner[:] = sorted(n for n in inner if not n.startswith(".") and n not in ("reports", "node_modules", "build"))
        place = os.path.relpath(folder, project.root)
        found += [os.path.normpath(f"{place}/{n}") for n in sorted(files) if n.lower().endswith(DATA_ENDINGS)]
        if len(found) >= MOST_FILES:
            break
    return sorted(found[:MOST_FILES])


def _with(options: Sequence[str] | Mapping[str, Any] | tuple[str, ...], more: Sequence[str]) -> list[str]:
    """The options, and what stands in the file beside them."""
    return list(dict.fromkeys([*options, *more]))
