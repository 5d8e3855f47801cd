"""How to ask: sampling parameters and the form of the answer, kept in the address as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import streamlit as st

from workbench.define.suite_form import LARGEST
from workbench.define.yamlfile import parse_keys
from workbench.errors import SuiteError
from workbench.records import Json
from workbench.views.screens.page import go_to

NUMBERS: Mapping[str, tuple[type, float, float]] = {
    "temperature": (float, 0.0, 0.1),
    "max_tokens": (int, 1, 16),
    "top_p": (float, 0.0, 0.05),
    "seed": (int, 0, 1),
}
"""Parameter → type, least value, step of its buttons."""
FORMS = {
    "": "free text",
    "choices": "one of several choices",
    "schema": "JSON by a schema",
    "grammar": "by a grammar (GBNF)",
}
HELP = {
    "choices": "One choice a line",
    "schema": "A JSON Schema",
    "grammar": "A GBNF grammar: https://github.com/ggml-org/llama.cpp/tree/master/grammars",
}


def chosen_params() -> tuple[dict[str, Json], dict[str, Json]]:
    """Widgets for parameters and answer form; what is left empty is left to the prompt and the project.

    Raises SuiteError for what can't be read."""
    params, answer = _of_address("params"), _of_address("answer")
    columns = st.columns(2)
    for i, (name, (kind, least, step)) in enumerate(NUMBERS.items()):
        given = params.get(name)
        fits = isinstance(given, int | float) and not isinstance(given, bool) and least <= given <= LARGEST
        st.session_state[f"param {name}"] = kind(given) if fits else None
        columns[i % 2].number_input(
            name, min_value=kind(least), step=kind(step), key=f"param {name}", placeholder="default",
            on_change=_keep_number, args=(name,),
        )  # fmt: skip
    rest = {name: value for name, value in params.items() if name not in NUMBERS}
    with st.expander("Stop, answer form, other parameters", expanded=bool(rest or answer)):
        _others(params, rest)
        found = _form(answer)
    return _of_address("params"), found


def _others(params: Mapping[str, Json], rest: dict[str, Json]) -> None:
    st.session_state["other params"] = ", ".join(f"{name}: {json.dumps(value)}" for name, value in rest.items())

    def keep() -> None:
        text = st.session_state["other params"].strip()
        try:
            given = parse_keys(text, "other parameters", "top_k: 40")
        except SuiteError as error:
            st.session_state["failed"] = str(error)
            return
        _write("params", {**{n: v for n, v in params.items() if n in NUMBERS}, **given})

    st.text_input(
        "Other parameters", key="other params", on_change=keep, placeholder='stop: ["\\n"], min_p: 0.05, top_k: 40'
    )


def _form(answer: Mapping[str, Json]) -> dict[str, Json]:
    """The wanted form of the answer, checked as a suite's would be."""
    given = next(iter(answer), "")
    st.session_state["form"] = given if given in FORMS else ""
    form = st.selectbox("Answer", list(FORMS), format_func=FORMS.__getitem__, key="form", on_change=_keep_form)
    if not form:
        return {}
    value = answer.get(form, "")
    shown = (
        "\n".join(map(str, value))
        if isinstance(value, list)
        else value
        if isinstance(value, str)
        else json.dumps(value)
    )
    st.session_state["form text"] = shown
    text = st.text_area(HELP[form], key="form text", on_change=_keep_form).strip()
    if not text:
        raise SuiteError(f"the answer form '{form}' is empty; write it, or take free text")
    if form == "choices":
        return {"choices": [line for line in text.split("\n") if line.strip()]}
    if form == "grammar":
        return {"grammar": text}
    return {"schema": _schema(text)}


def _schema(text: str) -> Json:
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise SuiteError(f"the schema is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise SuiteError("the schema must be an object")
    return schema


def _keep_form() -> None:
    form, text = st.session_state["form"], st.session_state.get("form text", "")
    value = text.split("\n") if form == "choices" else text
    _write("answer", {form: value} if form else {})


def _keep_number(name: str) -> None:
    value = st.session_state[f"param {name}"]
    params = {n: v for n, v in _of_address("params").items() if n != name}
    _write("params", params if value is None else {**params, name: value})


def _write(name: str, value: Mapping[str, Json]) -> None:
    if value:
        go_to(name, json.dumps(value, ensure_ascii=False))
    else:
        st.query_params.pop(name, None)


def _of_address(name: str) -> dict[str, Any]:
    try:
        found = json.loads(st.query_params.get(name, "{}"))
        json.dumps(found, allow_nan=False)  # `1e999` is read as infinite, which no request can say
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
