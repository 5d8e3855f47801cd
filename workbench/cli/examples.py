"""Examples below each command's help, and the whole first sentence of each in the lists of commands.

The examples speak of the project that `workbench init` writes; a test parses each.
"""

from __future__ import annotations

import re

import click

EXAMPLES: dict[str, tuple[str, ...]] = {
    "init": ("init my-project",),
    "run": (
        "run sentiment --dry-run",
        "run sentiment --only prompt=few-shot --set temperature=0.3 --limit 5",
        "run sentiment --gate --report reports/sentiment.html",
    ),
    "runs": ("runs --suite sentiment --limit 5",),
    "runs join": ("runs join 20261124-101500 20261124-101730",),
    "show": (
        "show latest",
        "show latest --grid --only prompt=few-shot",
        "show latest --wrong choice",
        "show latest --case r02",
    ),
    "batches": ("batches list", "batches collect --all --wait"),
    "score": ('score latest --with "length: {unit: words}"', "score latest --with evals/sentiment.yaml"),
    "judge sample": ("judge sample latest -n 100 --scorer judge --out evals/labels/helpful.jsonl",),
    "judge calibrate": ("judge calibrate judges/helpful --labels evals/labels/helpful.jsonl --model grader",),
    "cases": ("cases latest --suspicious", "cases latest --disagree few-shot zero-shot"),
    "compare": ("compare latest --reference few-shot", "compare latest 20261124-101500"),
    "report": ("report latest --to md --out report.md", "report latest --to json --out -"),
    "gate": ("gate sentiment --not-enough-data fail",),
    "baseline bless": ('baseline bless latest -m "first version"',),
    "baseline diff": ("baseline diff latest",),
    "prompts render": ('prompts render sentiment/few-shot --set text="Great fun"',),
    "prompts diff": (
        "prompts diff sentiment/few-shot",
        "prompts diff sentiment/few-shot@production sentiment/zero-shot",
    ),
    "prompts label": ("prompts label sentiment/few-shot production",),
    "prompts save": ('prompts save sentiment/few-shot -m "two examples in place of four"',),
    "models check": ("models check smollm2", "models check llama:models/mine.gguf"),
    "schema": ("schema suite",),
    "import promptfoo": ("import promptfoo promptfooconfig.yaml --dry-run",),
    "export prompt": ("export prompt sentiment/few-shot --to messages --var text=Great",),
    "export training": (
        "export training latest --out data/train.jsonl",
        "export training latest --only model=large --as prompt=zero-shot --as model=small --out data/train.jsonl",
        "export training latest --to preferences --answers votes",
    ),
    "export run": ("export run latest --to jsonl --out trials.jsonl",),
    "store export": ("store export runs.gz",),
    "store prune": ("store prune --keep 20 --dry-run",),
    "serve-fake": ("serve-fake --port 8010",),
}
"""Command: what one types after `workbench`."""


def with_examples(command: click.Command, name: str) -> click.Command:
    """The command with its examples, and so each below it."""
    if name in EXAMPLES:
        lines = "\n".join(f"  workbench {line}" for line in EXAMPLES[name])
        command.epilog = f"\b\nExamples:\n{lines}"
    for part, below in command.commands.items() if isinstance(command, click.Group) else ():
        below.short_help = (
            below.short_help or re.split(r"\.(?:\s|$)", " ".join((below.help or "").split()), maxsplit=1)[0]
        )
        with_examples(below, f"{name} {part}")
    return command
