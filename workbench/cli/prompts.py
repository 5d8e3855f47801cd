"""`workbench prompts`: the library, its revisions and labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from workbench.authoring import find_prompt, prompt_history, record, recorded_prompt
from workbench.cli.session import Session, emit
from workbench.define.library import diff
from workbench.define.lint import lint_prompt
from workbench.define.prompt import render_prompt
from workbench.define.yamlfile import parse_value
from workbench.errors import DataError, SuiteError, UnknownName, UseError
from workbench.records import Input, Json, Prompt
from workbench.store.prompts import history
from workbench.views.format import printable

WRONG = 2

as_json_option = click.option("--json", "as_json", is_flag=True, help="JSON Lines.")


def short(revision: str | None) -> str:
    """Enough of a revision to name it: `NAME@3f2a91bc`."""
    return "–" if revision is None else revision.removeprefix("pr1-")[:8]


@click.group()
def prompts() -> None:
    """The prompt library. REF is NAME (the file), NAME@LABEL or NAME@REVISION, of which four characters do."""


@prompts.command("list")
@as_json_option
@click.pass_obj
def list_(session: Session, as_json: bool) -> None:
    """List all prompts, with the revision on disk; one that can't be read says why."""
    rows: list[dict[str, Json]] = []
    wrong = False
    for name in session.library.names():
        labels = session.library.labels(name)
        try:
            prompt = session.library.get(name)
        except UseError as error:
            wrong = True
            rows.append({"name": name, "revision": None, "labels": sorted(labels), "description": f"error: {error}"})
            continue
        inputs = [i.name if i.required else f"{i.name}?" for i in prompt.inputs]
        named = [label if labels[label] == prompt.revision else f"{label} (older)" for label in sorted(labels)]
        revision = prompt.revision if as_json else short(prompt.revision)
        rows.append(
            {
                "name": name,
                "revision": revision,
                "labels": labels if as_json else named,
                "inputs": inputs,
                "description": prompt.description,
            }
        )
    emit(rows, ("name", "revision", "labels", "inputs", "description"), as_json)
    if wrong:
        click.get_current_context().exit(WRONG)


@prompts.command()
@click.argument("ref")
@as_json_option
@click.pass_obj
def show(session: Session, ref: str, as_json: bool) -> None:
    """Show a prompt: what is known of it, and its text."""
    prompt = find(session, ref)
    labels = [k for k, revision in session.library.labels(prompt.name).items() if revision == prompt.revision]
    facts: dict[str, Json] = {
        "name": prompt.name,
        "revision": prompt.revision,
        "labels": sorted(labels),
        "description": prompt.description,
        "tags": list(prompt.tags),
        "model": prompt.model,
        "options": dict(prompt.options),
        "inputs": [_input(i) for i in prompt.inputs],
        "tools": [tool["function"]["name"] for tool in prompt.tools],
        "outputs": [output["name"] for output in prompt.outputs],
        "partials": list(prompt.partials),
        "strict": prompt.strict,
    }
    if as_json:
        body = {"tools": list(prompt.tools), "outputs": list(prompt.outputs), "partials": dict(prompt.partials)}
        click.echo(json.dumps({**facts, **body, "template": prompt.template, "path": prompt.path}, ensure_ascii=False))
        return
    for key, value in facts.items():
        if value not in (None, "", [], {}):
            click.echo(printable(f"{key}: {_told(value)}").replace("\n", " "))
    click.echo("\n" + printable(prompt.template))
    for name, source in prompt.partials.items():
        click.echo(printable(f"\n── {name} ──\n{source}"))


@prompts.command()
@click.argument("ref")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="One input; may be repeated.")
@click.option("--inputs", type=click.Path(path_type=Path), help="A JSON file with the inputs by name.")
@as_json_option
@click.pass_obj
def render(session: Session, ref: str, settings: tuple[str, ...], inputs: Path | None, as_json: bool) -> None:
    """Print the messages that a prompt makes of inputs."""
    prompt = find(session, ref)
    values = {**(_read_inputs(inputs) if inputs else {}), **_set_values(prompt, settings)}
    messages = render_prompt(prompt, values)
    if as_json:
        click.echo(json.dumps([m.to_json() for m in messages], ensure_ascii=False, indent=2))
        return
    for number, message in enumerate(messages):
        click.echo(("\n" if number else "") + f"── {message.role} ──\n" + printable(message.text))


@prompts.command("diff")
@click.argument("ref")
@click.argument("other", required=False)
@click.pass_obj
def diff_(session: Session, ref: str, other: str | None) -> None:
    """Show what changes from REF to OTHER.

    Without OTHER: from REF to the file; of a plain NAME from its newest older revision.
    """
    new = find(session, other or ref.partition("@")[0])
    old = find(session, ref) if other or "@" in ref else _previous(session, new)
    text = diff(old, new)
    click.echo(printable(text) if text else f"{old.name}: no difference ({short(old.revision)})")


@prompts.command()
@click.argument("names", nargs=-1)
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@as_json_option
@click.pass_obj
def lint(session: Session, names: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Check prompts, or all of them; ends with 2 where one has an error."""
    findings = [f for name in names or session.library.names() for f in lint_prompt(session.library, name)]
    for f in findings:
        row = {"path": f.path, "line": f.line, "level": f.level, "message": f.message}
        click.echo(json.dumps(row, ensure_ascii=False) if as_json else printable(str(f)))
    if any(strict or f.level == "error" for f in findings):
        click.get_current_context().exit(WRONG)


@prompts.command()
@click.argument("name")
@click.argument("label", required=False)
@click.option("--to", "ref", help="The revision that the label shall name; default: the file as it is.")
@as_json_option
@click.pass_obj
def label(session: Session, name: str, label: str | None, ref: str | None, as_json: bool) -> None:
    """Move a LABEL of a prompt; without LABEL list the prompt's labels."""
    library = session.library
    if label is None:
        if ref:
            raise UseError("--to needs a LABEL")
        if not library.labels(name):
            library.get(name)
        rows = [{"label": k, "revision": r if as_json else short(r)} for k, r in sorted(library.labels(name).items())]
        emit(rows, ("label", "revision"), as_json)
        return
    if ref and "@" not in ref:
        ref = f"{name}@{ref}"
    before = library.labels(name).get(label)
    prompt = library.label(name, label, find(session, ref or name))
    if as_json:
        click.echo(json.dumps({"name": name, "label": label, "revision": prompt.revision, "was": before}))
    else:
        was = f" (was {short(before)})" if before and before != prompt.revision else ""
        click.echo(f"{name}@{label} → {short(prompt.revision)}{was}")


@prompts.command()
@click.argument("name")
@as_json_option
@click.pass_obj
def log(session: Session, name: str, as_json: bool) -> None:
    """List a prompt's revisions, newest first: from git where it is there, else as runs and `save` recorded them."""
    labels = session.library.labels(name)
    changes = prompt_history(session.library, session.database(), name)
    named = {change.revision: sorted(k for k, r in labels.items() if r == change.revision) for change in changes}
    shown: Callable[[str | None], str | None] = (lambda r: r) if as_json else short
    rows = [
        {
            "revision": shown(change.revision),
            "time": change.time if as_json else change.time[:16].replace("T", " "),
            "author": change.author,
            "message": change.message,
            "labels": named[change.revision],
            "parent": shown(change.parent),
        }
        for change in changes
    ]
    emit(rows, ("revision", "time", "author", "message", "labels", "parent"), as_json)


@prompts.command()
@click.argument("name")
@click.option("-m", "--message", required=True, help="Why the prompt reads as it does now.")
@click.pass_obj
def save(session: Session, name: str, message: str) -> None:
    """Record the revision on disk, with a message."""
    prompt = session.library.get(name)
    recorded = record(session.database(), prompt, message)
    was = f", was {short(recorded.parent)}" if recorded.parent else ""
    click.echo(f"{name}: {'new' if recorded.new else 'known'} revision {short(prompt.revision)}{was}")


def find(session: Session, ref: str) -> Prompt:
    """A prompt of the library, else one that the store recorded; raises UnknownName or PromptError."""
    return find_prompt(session.library, session.database, ref)


def _previous(session: Session, new: Prompt) -> Prompt:
    """The newest revision that is recorded or labelled and is not this one; raises UseError."""
    with session.database().read() as connection:
        recorded = history(connection, new.name)
    for found in recorded:
        if found.revision != new.revision:
            return recorded_prompt(session.library, found)
    for revision in session.library.labels(new.name).values():
        if revision != new.revision:
            return session.library.find(f"{new.name}@{revision}")
    raise UseError(f"no other revision of '{new.name}' is recorded or labelled; name two: diff REF OTHER")


def _read_inputs(file: Path) -> dict[str, Json]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}", file) from error
    except ValueError as error:
        raise DataError(f"is not JSON: {error}", file) from error
    if not isinstance(data, dict):
        raise DataError("must hold one object: the inputs by name", file)
    return data


def _set_values(prompt: Prompt, settings: Sequence[str]) -> dict[str, Json]:
    """Text for inputs that are text, else what YAML reads it as."""
    types = {i.name: i.type for i in prompt.inputs}
    values = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UseError(f"--set takes NAME=VALUE, not '{setting}'")
        if name not in types:
            raise UnknownName(f"input of '{prompt.name}'", name, types)
        values[name] = value if types[name] == "string" else _value(value)
    return values


def _value(text: str) -> Json:
    try:
        return parse_value(text, "--set")
    except SuiteError:
        return text


def _input(declared: Input) -> dict[str, Any]:
    told = {"name": declared.name, "type": declared.type, "required": declared.required, "default": declared.default}
    return {**told, "example": declared.example, "description": declared.description}


def _told(value: Json) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(_told_input(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _told_input(declared: dict[str, Any]) -> str:
    default = "" if declared["default"] is None else f" = {declared['default']}"
    return f"{declared['name']}{'' if declared['required'] else '?'}: {declared['type']}{default}"
