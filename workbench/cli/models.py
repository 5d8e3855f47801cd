"""`workbench models`: what is known of each model, and whether it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from workbench.checks import keep_check
from workbench.cli.session import Session, emit
from workbench.models import Check, check_model, describe_models

DOES_NOT_ANSWER = 3
_SPEED_COLUMNS = ("model", "prompt", "decode 1", "decode 8", "decode 32", "memory")
_COLUMNS = ("alias", "engine", "what", "size", "quantisation", "context", "licence", "price", "ready")


@click.group()
def models() -> None:
    """What is known of each model, and whether it answers."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of a table.")
@click.pass_obj
def list_models(session: Session, as_json: bool) -> None:
    """List the project's models. Nothing is fetched or loaded."""
    rows = describe_models(session.project.models)
    emit(rows if as_json else [_shown(row) for row in rows], _COLUMNS, as_json)


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON line.")
@click.pass_obj
def check(session: Session, name: str, as_json: bool) -> int:
    """Ask the model NAME one short question. Exit code 0: it answers, 3: it does not, 2: there is no such."""
    model = session.project.model(name)
    result = check_model(model)
    keep_check(model, result)
    if as_json:
        emit([asdict(result)], (), True)
    elif result.answered:
        click.echo(f"{name} answers: {result.text}")
        click.echo(_speed(result))
        if result.speeds:
            emit([_speed_row(asdict(speed)) for speed in result.speeds], _SPEED_COLUMNS, False)
            click.echo(result.advice)
    else:
        click.echo(f"{name} does not answer: {result.text}", err=True)
    return 0 if result.answered else DOES_NOT_ANSWER


def _shown(row: Mapping[str, object]) -> dict[str, object]:
    size, price, ready = row["bytes"], row["price"], row["ready"]
    return {
        **row,
        "size": f"{size / 1e6:.0f} MB" if isinstance(size, int) else None,
        "price": _price(price) if isinstance(price, Mapping) else None,
        "ready": "yes" if ready else f"no: {row['reason']}",
    }


def _speed_row(speed: Mapping[str, Any]) -> dict[str, object]:
    together = {f"decode {batch}": f"{rate:.0f}/s" for batch, rate in speed["decode"].items()}
    memory = f"{speed['memory'] / 1e6:.0f} MB"
    return {"model": speed["model"], "prompt": f"{speed['prompt']:.0f}/s", **together, "memory": memory}


def _price(price: Mapping[str, Any]) -> str:
    if not any(price.values()):
        return "free"
    return f"${price.get('input', 0):g} in, ${price.get('output', 0):g} out per million tokens"


def _speed(result: Check) -> str:
    speeds = [
        f"{tokens} {what} tokens" + (f" ({speed:.0f} a second)" if speed else "")
        for tokens, what, speed in (
            (result.prompt_tokens, "prompt", result.prompt_tokens_per_second),
            (result.output_tokens, "output", result.output_tokens_per_second),
        )
        if tokens is not None
    ]
    return ", ".join([f"{result.seconds or 0:.2f} s", *speeds])
