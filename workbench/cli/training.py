"""`workbench export training`: examples to fine-tune a model on, and which cases are held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from workbench.cli.session import Session, only_option, pairs
from workbench.errors import UseError
from workbench.store import runs as stored
from workbench.store.runs import VariantRow
from workbench.training.files import FORMS, PAIRED, doubts, told, write_examples
from workbench.training.pick import Wanted, default_answers, made_from, pick_examples
from workbench.views.format import one_line
from workbench.views.selected import select_some


@click.command("training")
@click.argument("run")
@click.option("--to", "form", type=click.Choice(list(FORMS)), default="chat", show_default=True)
@click.option(
    "--answers",
    metavar="SCORER|expected|votes",
    help="What makes an answer good; default: the first scorer of passes, else the expected answers.",
)
@click.option("--least", type=float, metavar="X", help="What SCORER gives good answers at least, if it passes none.")
@click.option("--most", type=float, metavar="X", help="… and at most.")
@only_option
@click.option(
    "--as",
    "asked_as",
    multiple=True,
    callback=pairs,
    metavar="prompt|model|NAME=VALUE",
    help="The variant whose messages the examples have; default: those that each answer was given to.",
)
@click.option(
    "--hold-out",
    type=click.FloatRange(0, 0.9),
    default=0.3,
    show_default=True,
    help="The share of cases that is kept for evaluation.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="The file; default: data/training/RUN.jsonl."
)
@click.pass_obj
def training(session: Session, /, run: str, **options: Any) -> None:
    """Write examples to fine-tune a model on: good answers of RUN, each with the messages it was given to.

    Beside them goes a file that tells which cases they were made of. Name it in workbench.yaml, as trained_on of the
    tuned model, and in a suite, as held_out of its cases: then the model is only asked about what it never saw."""
    form: str = options["form"]
    with session.database().read() as connection:
        found = stored.get_run(connection, run)
        variants = stored.run_variants(connection, found.id)
        taken = select_some(variants, options["only"])
        wanted = Wanted(
            answers=options["answers"] or default_answers(stored.run_scorers(connection, found.id)),
            pairs=form in PAIRED,
            least=options["least"],
            most=options["most"],
            variants=frozenset(taken),
            asked_as=_single(variants, options["asked_as"]) if options["asked_as"] else None,
            hold_out=options["hold_out"],
        )
        picked = pick_examples(connection, found.id, wanted)
    path: Path = options["out"] or session.project.root / "data" / "training" / f"{found.id}.jsonl"
    beside = write_examples(picked, form, path, made_from(found, variants, wanted))
    click.echo(path)
    click.echo(beside)
    for line in (told(picked), *doubts(picked)):
        click.echo(one_line(line), err=True)


def _single(variants: Sequence[VariantRow], wanted: Mapping[str, str]) -> str:
    found = select_some(variants, wanted)
    if len(found) != 1:
        raise UseError(f"--as must name one variant, but {len(found)} are so; add another NAME=VALUE")
    return found[0]
