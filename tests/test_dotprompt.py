"""Dotprompt files: what is carried over renders as Handlebars does, all else is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.cli import main
from workbench.define.library import Library
from workbench.define.prompt import parse_prompt, render_prompt
from workbench.interop.dotprompt import import_dotprompt
from workbench.interop.handlebars import handlebars_body
from workbench.interop.report import Left

WELCOME = """\
---
model: googleai/gemini-1.5-flash
config:
  temperature: 0.9
  maxOutputTokens: 64
  stopSequences: [STOP]
input:
  schema:
    location: string, where they are
    style?: string
    guests(array, who came): string
  default:
    location: a restaurant
---
{{role "system"}}
You are at {{location}}.
{{#if style}}
Speak in the style of {{style}}.
{{else}}
Speak plainly.
{{/if}}
{{history}}
{{role "user"}}
Greet{{#each guests}} {{@index}}:{{this.name}} of {{../location}}{{#if @last}}.{{else}},{{/if}}{{/each}}
"""


def rendered(template: str, **inputs: object) -> list[tuple[str, str]]:
    body, names, history = handlebars_body(template)
    declared = "".join(f"- {{name: {n}, kind: any, required: false}}\n" for n in sorted(names))
    declared += "- {name: history, kind: thread, required: false}\n" if history else ""
    front = f"---\ntemplate: {{strict: false}}\n{'inputs:' if declared else ''}\n{declared}---\n"
    return [(m.role, m.text) for m in render_prompt(parse_prompt(front + body), inputs)]


@pytest.mark.parametrize(
    ("template", "inputs", "messages"),
    [
        ("Hello {{name}}!", {"name": "<Ann> & co"}, [("user", "Hello <Ann> & co!")]),
        ("Hello {{{name}}}{{nobody}}!", {"name": "Ann"}, [("user", "Hello Ann!")]),
        ("{{! a note }}a{{!-- {{x}} --}}b", {}, [("user", "ab")]),
        ("a\n{{#if x}}\nb\n{{/if}}\nc", {"x": 1}, [("user", "a\nb\nc")]),
        ("a\n{{#if x}}\nb\n{{/if}}\nc", {"x": 0}, [("user", "a\nc")]),
        ("a {{#if x}}b{{else if y}}c{{else}}d{{/if}} e", {"x": "", "y": [1]}, [("user", "a c e")]),
        ("{{#unless x}}no{{/unless}}.", {"x": []}, [("user", "no.")]),
        ('{{#ifEquals a "b"}}yes{{else}}no{{/ifEquals}}', {"a": "b"}, [("user", "yes")]),
        ("{{#each l}}[{{this}}]{{/each}}", {"l": ["a", "b"]}, [("user", "[a][b]")]),
        ("x{{#each l}}[{{n}}{{#each m}}{{.}}{{../n}}{{/each}}]{{/each}}", {"l": [{"n": 1, "m": [2, 3]}]}, [("user", "x[12131]")]),
        ("x{{#each l}}{{this}}{{/each}}", {}, [("user", "x")]),
        ("{{a.items}}", {"a": {"items": "own"}}, [("user", "own")]),
        ('{{role "system"}}S{{role "model"}}M {{role "user"}} U', {}, [("system", "S"), ("assistant", "M "), ("user", " U")]),
        ('U\n{{role "model"}}\nM', {}, [("user", "U"), ("assistant", "M")]),
        (
            '{{role "system"}}S{{history}}{{role "user"}}U',
            {"history": [{"role": "user", "content": "old"}]},
            [("system", "S"), ("user", "old"), ("user", "U")],
        ),
        ("a {% if x %} {# b #} \\{{c}} {", {}, [("user", "a {% if x %} {# b #} {{c}} {")]),
        ("a\nsystem:\nb {{x}}", {"x": "user:"}, [("user", "a\nsystem:\nb user:")]),
    ],
)  # fmt: skip
def test_it_renders_as_handlebars_does(
    template: str, inputs: dict[str, object], messages: list[tuple[str, str]]
) -> None:
    assert rendered(template, **inputs) == messages


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{media url=photo}}", "media url="),
        ("{{>partial}}", ">partial"),
        ("{{#with a}}{{b}}{{/with}}", "#with a"),
        ("{{json x}}", "json x"),
        ("{{@auth.email}}", "@auth.email"),
        ("{{section 'code'}}", "section 'code'"),
        ("a {{~b~}} c", "whitespace control"),
        ("{{#if a}}b", "not closed"),
        ("{{/if}}", "no such block is open"),
        ("{{#if a}}{{/each}}", "no such block is open"),
        ("{{#each a}}{{else}}b{{/each}}", "{{else}} of {{#each}}"),
        ('{{role "tool"}}a', "role \"tool\""),
        ("{{role who}}a", "role who"),
        ("{{../a}}", "leaves the case"),
        ("{{this}}", "outside {{#each}}"),
        ("{{a.[0]}}", "a.[0]"),
        ("{{^a}}b{{/a}}", "^a"),
        ("{{history}} and text", "text after {{history}}"),
        ("{{loop}}", "of the name 'loop'"),
        ("{{}}", "an empty tag"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused_by_name(template: str, why: str) -> None:
    with pytest.raises(Left) as refused:
        handlebars_body(template)
    assert why in str(refused.value)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufdd0\ufdd1\0")))
def test_plain_text_stays_as_it_is(text: str) -> None:
    """But for what Handlebars itself reads: pairs of braces, and backslashes before them."""
    text = text.replace("{{", "{ {").replace("\\", "/").rstrip("{")
    if text.strip():
        ((role, found),) = rendered(f"|{text}|")
        assert (role, found) == ("user", f"|{text}|")


def test_a_file_becomes_a_prompt(tmp_path: Path, capsys) -> None:
    (tmp_path / "welcome.prompt").write_text(WELCOME)
    out = tmp_path / "out"
    assert (
        main(["--project", str(tmp_path), "import", "dotprompt", str(tmp_path / "welcome.prompt"), "--out", str(out)])
        == 0
    )
    assert "is any array" in capsys.readouterr().out
    prompt = Library(out / "prompts").find("welcome")
    assert prompt.options == {"temperature": 0.9, "max_tokens": 64, "stop": ["STOP"]}
    assert prompt.model == "gemini-1.5-flash"
    assert [(i.name, i.type, i.required) for i in prompt.inputs] == [
        ("location", "string", False), ("style", "string", False), ("guests", "array", True), ("history", "thread", False),
    ]  # fmt: skip
    guests = [{"name": "Ann"}, {"name": "Bo"}]
    assert [(m.role, m.text) for m in render_prompt(prompt, {"guests": guests, "history": []})] == [
        ("system", "You are at a restaurant.\nSpeak plainly."),
        ("user", "Greet 0:Ann of a restaurant, 1:Bo of a restaurant."),
    ]
    assert "https://generativelanguage.googleapis.com" in (out / "workbench.yaml").read_text()
    again = ["--project", str(tmp_path), "import", "dotprompt", str(tmp_path / "welcome.prompt"), "--out", str(out)]
    assert main(again) == 2
    assert "nothing was written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("front", "why"),
    [
        ("tools: [time]", "tools"),
        ("model: vertexai/gemini", "no engine for 'vertexai'"),
        ("config: {safety: 1}", "'safety' of config"),
        ("input: {schema: Registered}", "schema 'Registered'"),
        ("input: {schema: {'(*)': string}}", "'(*)' of the input schema"),
        ("output: {format: media}", "output format 'media'"),
        ("output: {schema: {'a(array)': string}}", "output schema with lists"),
        ("a.b: {c: 1}", "'a.b'"),
        ("- 1", "no mapping"),
        ("a: [", "can't be read"),
    ],
)
def test_front_matter_without_a_counterpart(tmp_path: Path, front: str, why: str) -> None:
    (tmp_path / "x.prompt").write_text(f"---\n{front}\n---\nHello")
    report = import_dotprompt(tmp_path / "x.prompt")
    assert why in report.refused
    assert not [name for name in report.files if name.startswith("prompts/")]


def test_an_output_schema_is_written_beside(tmp_path: Path) -> None:
    (tmp_path / "x.prompt").write_text(
        "---\noutput: {format: json, schema: {mood: string, 'sure?': number}}\n---\nHello"
    )
    report = import_dotprompt(tmp_path / "x.prompt")
    assert not report.refused
    assert '"required": [\n    "mood"\n  ]' in report.files["data/x.schema.json"]
    assert [o["name"] for o in parse_prompt(report.files["prompts/x.prompty"]).outputs] == ["mood", "sure"]
