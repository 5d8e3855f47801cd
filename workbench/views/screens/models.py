"""Models: what is known of each, how fast it is here, how they rank on one suite, and which to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import streamlit as st

from workbench.checks import keep_check, kept_check
from workbench.define.project import Project
from workbench.define.yamlfile import write_yaml
from workbench.models import Check, check_model, describe_models
from workbench.records import CaseScores, Model
from workbench.stats.paired import PairedComparison, compare_paired
from workbench.stats.summary import VariantSummary, summarise
from workbench.store.grouped import grouped_scores, newest_runs, suites_run, usage_by_model
from workbench.store.runs import get_run, quarantined_cases
from workbench.views import format as f
from workbench.views.screens.page import (
    chart,
    choose,
    errors_shown,
    exports,
    literal,
    open_project,
    open_screen,
    open_store,
    plain_text,
)

GREY = "#808a94"
"""Seen on a light and on a dark page."""


def show() -> None:
    """The page."""
    st.title("Models", anchor=False)
    with errors_shown():
        project = open_project()
        _known(project)
        _measured(project)
        _ranking()
        _chosen(project)


def _known(project: Project) -> None:
    rows, reasons = [], []
    for told in describe_models(project.models):
        checked = kept_check(project.models[str(told["alias"])])
        rows.append(_row(told, _speeds(checked[0] if checked else None)))
        if told["reason"]:
            reasons.append(f"{f.one_line(str(told['alias']))}: {told['reason']}")
    st.dataframe(rows, hide_index=True, width="stretch")
    for reason in reasons:
        plain_text(reason)
    st.caption(
        "Aliases of `workbench.yaml`, and two that every project has. Speeds are tokens a second measured on this "
        "machine, without the time for loading; of a hosted model network and queue are in them."
    )
    exports(lambda: rows, "models")


def _row(told: Mapping[str, Any], speeds: Mapping[str, object]) -> dict[str, object]:
    size, price, context = told["bytes"], told["price"], told["context"]
    return {
        "model": f.one_line(str(told["alias"])),
        "ready": "✓ yes" if told["ready"] else "✗ no",
        "size": f"{size / 1e6:,.0f} MB" if isinstance(size, int) else f.NONE,
        "quantisation": f.one_line(str(told["quantisation"] or f.NONE)),
        "context": f"{context:,}" if isinstance(context, int) else f.NONE,
        "price in / out": _price(price),
        **speeds,
        "licence": f.one_line(str(told["licence"] or f.NONE)),
        "engine": f.one_line(str(told["engine"])),
        "what": f.one_line(str(told["what"] or f.NONE)),
    }


def _price(price: Any) -> str:
    """US dollars for a million tokens."""
    if not isinstance(price, Mapping):
        return f.NONE
    return f"${price.get('input', 0):g} / ${price.get('output', 0):g}" if any(price.values()) else "free"


def _speeds(check: Check | None) -> dict[str, object]:
    if check is None or not check.answered:
        return {"prompt/s": f.NONE, "answer/s": f.NONE, "32 together/s": f.NONE}
    own = check.speeds[0] if check.speeds else None
    prompt = own.prompt if own else check.prompt_tokens_per_second
    alone = own.decode.get(1) if own else check.output_tokens_per_second
    many = own.decode.get(32) if own else None
    shown = {"prompt/s": prompt, "answer/s": alone, "32 together/s": many}
    return {name: f.NONE if rate is None else f"{rate:,.0f}" for name, rate in shown.items()}


def _measured(project: Project) -> None:
    """Measuring on demand, and what came of it the last time."""
    st.subheader("Measure", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        titles = {alias: f.one_line(alias) for alias in project.models}
        alias = choose("Model", "model", titles, next(iter(titles)))
        pressed = st.button("Ask and measure")
    model = project.models[alias]
    if pressed:
        with st.spinner("The model is loaded, asked one short question and timed; a large file takes minutes."):
            keep_check(model, check_model(model))
        st.rerun()
    found = kept_check(model)
    if found is None:
        st.caption("Not measured here yet. A hosted model is asked one short question, which is paid for.")
        return
    check, when = found
    _told(check, when)


def _told(check: Check, when: str) -> None:
    day = when[:16].replace("T", " ")
    if not check.answered:
        st.warning(literal(f"{day} UTC: no answer: {check.text}"))
        return
    plain_text(f"{day} UTC, in {f.seconds(check.seconds)}: {f.one_line(check.text)}")
    if check.speeds:
        rows = [
            {
                "form": f.one_line(speed.model),
                "prompt/s": f"{speed.prompt:,.0f}",
                **{f"{n} together/s" if n > 1 else "answer/s": f"{rate:,.0f}" for n, rate in speed.decode.items()},
                "memory": f"{speed.memory / 1e6:,.0f} MB",
            }
            for speed in check.speeds
        ]
        st.dataframe(rows, hide_index=True, width="content")
        exports(lambda: rows, "speeds", "Speeds")
        plain_text(check.advice)


def _ranking() -> None:
    st.subheader("Ranking on one suite", anchor=False)
    with open_store() as connection:
        suites = suites_run(connection)
        if not suites:
            st.info("No run yet. Make a suite with `stage: select` that names your models, and run it.")
            if st.button("Build one"):
                open_screen("sweep")
            return
        left, right = st.columns(2)
        with left:
            suite = choose("Suite", "suite", {name: f.one_line(name) for name in suites}, suites[0])
        newest = newest_runs(connection, suite=suite)
        run, scorers = newest[0][0], newest[0][4]
        if not scorers:
            st.caption("Its newest run has no scorer.")
            return
        with right:
            scorer = choose("Scorer", "scorer", {name: f.one_line(name) for name in scorers}, scorers[0])
        columns = grouped_scores(connection, run, scorer, "model")
        aside = len(quarantined_cases(connection, [run]).get(run, ()))
        used = usage_by_model(connection, run)
        margin = float(get_run(connection, run).header.get("margin") or 0.05)
    summaries = sorted(summarise(columns), key=lambda s: -(s.mean if s.mean is not None else float("-inf")))
    if not any(s.mean is not None for s in summaries):
        st.caption("Nothing is scored by it yet, or it gives labels, which have no mean.")
        return
    reference = choose("Held against", "against", {s: f.one_line(s) for s in columns.variants}, columns.variants[0])
    compared = {c.variant: c for c in compare_paired(columns, reference, margin)}
    _ranks(summaries, compared, used, columns, run)
    if aside:
        plain_text(f.left_out(aside))
    elsewhere = sorted({model for _, _, _, model, _ in newest} - set(columns.variants))
    if elsewhere:
        plain_text(f"Only in older runs of this suite: {', '.join(map(f.one_line, elsewhere))}.")


def _ranks(
    summaries: Sequence[VariantSummary],
    compared: Mapping[str, PairedComparison],
    used: Mapping[str, tuple[int, float | None, float | None]],
    columns: CaseScores,
    run: str,
) -> None:
    rows: list[dict[str, object]] = []
    for s in summaries:
        c = compared.get(s.variant)
        tokens, cost, seconds = used.get(s.variant, (0, None, None))
        rows.append(
            {
                "model": f.one_line(s.variant),
                "mean": f.estimate(s),
                "cases": s.cases,
                "difference": f.difference(c) if c else "reference",
                "verdict": f.verdict(c) if c else "",
                "without score": s.missing,
                "tokens": f.tokens(tokens),
                "cost": f.money(cost),
                "seconds of calls": f.seconds(seconds),
            }
        )
    drawn = [
        {"model": f.one_line(s.variant), "mean": s.mean, "low": s.interval[0], "high": s.interval[1], "cases": s.cases}
        for s in summaries
        if s.mean is not None and s.interval
    ]
    if drawn:
        chart(_chart(drawn, columns), "ranking")
    st.dataframe(rows, hide_index=True, width="stretch")
    st.caption(
        "The newest run of the suite. A case counts once, with the mean of a model's prompts, parameters and repeats. "
        + f.held_together(list(compared.values()))
    )
    with st.container(horizontal=True):
        exports(lambda: rows, "ranking", "Ranking")
        if st.button("Open the run"):
            open_screen("compare", runs=run)


def _chart(drawn: list[dict[str, Any]], columns: CaseScores) -> Any:
    """Means with their intervals, the best on top; each name stands above its line, so that it takes no width."""
    share = columns.kind != "number"
    names = alt.Axis(
        labelAlign="left", labelBaseline="bottom", labelOffset=-6, labelPadding=0, ticks=False, domain=False
    )
    scale = alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=False)
    axis = alt.Axis(
        format="%" if share else "", title=f"{f.one_line(columns.scorer)}: mean, 95 % interval", tickCount=5
    )
    base = alt.Chart(alt.Data(values=drawn)).encode(
        y=alt.Y("model:N", sort=[row["model"] for row in drawn], title=None, axis=names)
    )
    digits = ".1%" if share else ".4~g"
    hint = [alt.Tooltip("model:N"), *(alt.Tooltip(f"{name}:Q", format=digits) for name in ("mean", "low", "high"))]
    bars = base.mark_rule(size=2, color=GREY).encode(
        x=alt.X("low:Q", scale=scale, axis=axis), x2="high:Q", tooltip=hint
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(x=alt.X("mean:Q", scale=scale), tooltip=hint)
    return (bars + points).properties(height=32 * len(drawn) + 70)


def _chosen(project: Project) -> None:
    """The project's file names no one model; suites do, best by an alias whose meaning then changes in one place."""
    st.subheader("Choose one for the project", anchor=False)
    titles = {alias: f.one_line(alias) for alias in project.models}
    alias = choose("Take", "take", titles, next(iter(titles)))
    st.caption("Write this into `workbench.yaml`, and let suites and prompts name `chosen`:")
    st.code(f.printable(chosen_lines(project.models[alias])), language=None)
    plain_text("In a suite: models: [chosen]")


def chosen_lines(model: Model) -> str:
    """The lines of workbench.yaml that give a model the alias `chosen`."""
    known = ("path", "quantise", "context", "model", "base_url", "api_key_env", "api_version", "api")
    said: dict[str, Any] = {"engine": model.engine}
    said |= {name: value for name, value in model.settings.items() if name in known}
    options = {name: value for name, value in model.settings.items() if name not in known}
    said |= {"price": dict(model.price)} if model.price else {}
    said |= {"limits": dict(model.limits)} if model.limits else {}
    said |= {"options": options} if options else {}
    return write_yaml({"models": {"chosen": said}})
