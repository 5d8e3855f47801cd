"""Prompty's own files and conformance vectors: read and rendered alike, or refused or different for a told reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from workbench.define.prompt import parse_prompt, render_prompt
from workbench.define.properties import KINDS
from workbench.define.template import render_template
from workbench.errors import PromptError

EMBEDDING = "'apiType: embedding' is not supported"
IMAGE = "'apiType: image' is not supported"
REFUSED = {
    "fixtures/embedding.prompty": (6, EMBEDDING),
    "fixtures/image.prompty": (6, IMAGE),
    "fixtures/multimodal.prompty": (11, "image inputs are not supported"),
    "fixtures/tools_mcp.prompty": (7, "tools of kind 'mcp' are not supported"),
    "fixtures/tools_openapi.prompty": (7, "tools of kind 'openapi' are not supported"),
    "prompts/runtime__python__prompty__tests__prompts__file_ref.prompty": (6, "'${file:schema.json}' is not resolved"),
    "prompts/runtime__python__prompty__tests__prompts__tools_custom.prompty": (7, "tools of kind 'my_provider'"),
    "prompts/runtime__python__prompty__tests__prompts__tools_openapi.prompty": (7, "tools of kind 'openapi'"),
    "prompts/runtime__typescript__packages__core__tests__fixtures__embedding.prompty": (7, EMBEDDING),
    "prompts/runtime__typescript__packages__core__tests__fixtures__image.prompty": (7, IMAGE),
    "prompts/runtime__typescript__packages__foundry__tests__fixtures__embedding.prompty": (7, EMBEDDING),
    "prompts/runtime__typescript__packages__openai__tests__fixtures__embedding.prompty": (7, EMBEDDING),
    "prompts/runtime__typescript__packages__openai__tests__fixtures__image.prompty": (7, IMAGE),
    "prompts/vscode__prompty__test-sample.prompty": (33, 'attributes of a role, [name="Alice"], are not supported'),
    "prompts/web__docs-examples__prompts__image-gen.prompty": (7, IMAGE),
}
"""Every file that is refused, the line that is named, and why."""

DIFFERENT = {
    "embedding_load": EMBEDDING,
    "image_apitype_load": IMAGE,
    "tools_mcp_load": "tools of kind 'mcp' are not supported",
    "tools_custom_load": "tools of kind 'my_provider' are not supported",
    "missing_file_error": "the library names a missing prompt: tests/test_prompts.py",
    "role_with_quoted_attribute": "attributes of a role, [name=\"Alice\"], are not supported",
    "mustache_section": "mustache is not supported",
    "mustache_loop": "mustache is not supported",
    "missing_variable_renders_empty": "an undefined variable is an error here, unless the prompt opts out",
    "strict_forged_boundary_throws": "a value can't forge a boundary here, so it stays text and need not be refused",
}  # fmt: skip
"""Conformance vectors to which we answer otherwise, and why; those about loading and parsing are refused so."""


@pytest.fixture
def prompty(shared: Path) -> Path:
    return shared / "prompty"


def test_every_real_file_is_read_or_refused_with_its_place(prompty: Path) -> None:
    refused, files = {}, sorted(prompty.glob("*/*.prompty"))
    assert len(files) > 40
    for file in files:
        name = file.relative_to(prompty).as_posix()
        try:
            read = parse_prompt(file.read_text(encoding="utf-8"), path=name)
        except PromptError as error:
            assert str(error.path) == name
            refused[name] = (error.line, error.message)
            continue
        values = {i.name: "x" for i in read.inputs if i.type in ("string", "any") and i.default is None}
        assert render_prompt(read, values), name
        assert "apiKey" not in json.dumps([dict(read.options), read.model, read.tools, read.outputs])
    assert refused.keys() == REFUSED.keys()
    for name, (line, message) in refused.items():
        assert line == REFUSED[name][0] and REFUSED[name][1] in message, name


def vectors(prompty: Path, *operations: str) -> list[dict[str, Any]]:
    found = json.loads((prompty / "vectors.json").read_text(encoding="utf-8"))
    return [vector for vector in found if vector["operation"] in operations]


def test_the_vectors_for_loading(prompty: Path) -> None:
    for vector in vectors(prompty, "load"):
        name, given, expected = vector["name"], vector["input"], vector["expected"]
        if name == "missing_file_error":
            continue
        if "fixture" in given:
            text = (prompty / "fixtures" / given["fixture"]).read_text(encoding="utf-8")
        else:
            names = [i["name"] for i in given["frontmatter"].get("inputs", [])]
            body = "x" + "".join(f"{{{{ {n} }}}}" for n in names)
            text = f"---\n{yaml.safe_dump(given['frontmatter'])}---\n{body}"
        if name in DIFFERENT:
            with pytest.raises(PromptError) as caught:
                parse_prompt(text)
            assert DIFFERENT[name] in str(caught.value), name
            continue
        _check_loaded(text, given, expected)


def _check_loaded(text: str, given: dict[str, Any], expected: dict[str, Any]) -> None:
    read = parse_prompt(text)
    model = expected.get("model") or {}
    assert read.name == expected.get("name", read.name)
    assert (read.model or "").removeprefix("openai:") == model.get("id", (read.model or "").removeprefix("openai:"))
    if "options" in model:
        assert read.options == {"temperature": 0.7, "max_tokens": 1000} == _ours(model["options"])
    if expected.get("inputs"):
        wanted = [(i["name"], KINDS[i["kind"]], i.get("default")) for i in expected["inputs"]]
        assert [(i.name, i.type, i.default) for i in read.inputs] == wanted
    if expected.get("outputs"):
        assert list(read.outputs) == expected["outputs"]
    if expected.get("tools"):
        assert [t["function"]["name"] for t in read.tools] == [t["name"] for t in expected["tools"]]
    if "instructions" in expected:
        assert read.template.rstrip("\n") == expected["instructions"]
    if "validated_inputs" in expected:  # an optional input without a value is absent, and writes nothing
        assert render_prompt(read, given["inputs"])[0].text == "x"


def _ours(options: dict[str, Any]) -> dict[str, Any]:
    return {"temperature": options["temperature"], "max_tokens": options["maxOutputTokens"]}


def test_the_vectors_for_rendering(prompty: Path) -> None:
    for vector in vectors(prompty, "render"):
        given = vector["input"]
        if given["engine"] != "jinja2":
            assert vector["name"] in DIFFERENT
            continue
        if vector["name"] in DIFFERENT:
            with pytest.raises(PromptError, match="is not defined"):
                render_template(given["template"], {}, given["inputs"])
        strict = vector["name"] not in DIFFERENT
        rendered = render_template(given["template"], {}, given["inputs"], strict)
        assert rendered == vector["expected"]["rendered"], vector["name"]


def test_the_vectors_for_parsing(prompty: Path) -> None:
    for vector in vectors(prompty, "parse"):
        body = vector["input"]["rendered"]
        if vector["name"] in DIFFERENT:
            with pytest.raises(PromptError) as caught:
                parse_prompt(body)
            assert DIFFERENT[vector["name"]] in str(caught.value)
            continue
        expected = [(m["role"], m["content"][0]["value"]) for m in vector["expected"]["messages"]]
        assert [(m.role, m.text) for m in render_prompt(parse_prompt(body), {})] == expected, vector["name"]


def test_the_vectors_for_injection(prompty: Path) -> None:
    """The values of all of them stay text of the message in which they stand."""
    for vector in vectors(prompty, "renderSegments"):
        given = vector["input"]
        *before, last = render_prompt(parse_prompt(given["template"]), given["inputs"])
        assert (last.role, last.text) == ("user", given["inputs"]["q"]), vector["name"]
        assert [m.role for m in before] == ["system"][: given["template"].count("system:")]


def test_the_tables_hold_no_more_than_there_is(prompty: Path) -> None:
    names = {v["name"] for v in vectors(prompty, "load", "render", "parse", "renderSegments")}
    assert names >= DIFFERENT.keys()


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("You are helpful.", [("system", "You are helpful.")]),
        ("---\nname: m\nmodel: gpt-4\n---\nsystem:\nHello world.", [("system", "Hello world.")]),
        ("---\n---\nBody only", [("system", "Body only")]),
        ("  ---\nname: test\n---\nBody", [("system", "Body")]),
        ("+++\nname: test\n+++\nBody", [("system", "Body")]),
        ("---\ninputs:\n  first: Jane\n---\nuser:\nHi {{first}}", [("user", "Hi Jane")]),
        ("---\ninputs:\n  n: 42\n---\nuser:\n{{n}}", [("user", "42")]),
        ("---\ninputSchema:\n  properties:\n    - {name: q, kind: string, default: Q}\n---\n{{q}}", [("system", "Q")]),
        ("---\ntemplate: nunjucks\n---\nuser:\nhi", [("user", "hi")]),
        ("---\nmodel:\n  api: chat\n  response: first\n  parameters: {seed: 9}\n---\nuser:\nhi", [("user", "hi")]),
    ],
)  # fmt: skip
def test_forms_that_are_read_without_the_shared_files(text: str, messages: list[tuple[str, str]]) -> None:
    assert [(m.role, m.text) for m in render_prompt(parse_prompt(text), {})] == messages
