"""`workbench serve-fake`: a server that speaks like OpenAI's, for trying out and for tests."""

from __future__ import annotations

import signal
from dataclasses import fields
from pathlib import Path
from threading import Event
from typing import Any

import click
from pydantic import RootModel

from workbench.define.yamlfile import Located, read_yaml, validate
from workbench.errors import UseError, suggest
from workbench.loopback import Fault, Latency, Limits, Script, serve


@click.command(name="serve-fake")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: a free one.")
@click.option("--script", type=click.Path(path_type=Path), help="How it behaves, as YAML; default: it echoes.")
def serve_fake(port: int, script: Path | None) -> int:
    """Serve OpenAI's API on this machine with answers, delays, limits and faults from a script.

    Prints its address, then serves until Ctrl-C. What it has seen is at /_calls.
    """
    ended = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with serve(read_script(script) if script else Script(), port) as server:
        click.echo(server.url)
        ended.wait()
        counts = server.books.summary()
    click.echo(f"{counts['calls']} calls, {counts['answered']} answered", err=True)
    return 0


def read_script(path: Path) -> Script:
    """A script from a YAML file; raises SuiteError with file and line."""
    located = read_yaml(path)
    _check_keys(located, Script)
    for name, part in (("latency", Latency), ("limits", Limits)):
        _check_keys(located, part, name)
    faults = located.data.get("faults")
    for number in range(len(faults)) if isinstance(faults, list) else ():
        _check_keys(located, Fault, "faults", number)
    return validate(RootModel[Script], located).root


def _check_keys(located: Located, kind: type[Any], *at: str | int) -> None:
    found = located.data
    for part in at:
        found = found.get(part) if isinstance(found, dict) else found[part]
    known = [field.name for field in fields(kind)]
    for key in found if isinstance(found, dict) else ():
        if key not in known:
            with located.at(*at, key):
                raise UseError(f"unknown key '{key}'{suggest(key, known)}")
