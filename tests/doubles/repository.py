"""A small repository with a prompt, a suite, gates and a model: a Python function that is right on so many cases."""

from __future__ import annotations

import json
from pathlib import Path

from workbench.cli import main

CASES = 200
GOOD = "---\ninputs:\n  text: {type: string}\n---\nsystem:\nSay positive or negative.\nuser:\n{{ text }}\n"
BETTER = GOOD.replace("Say positive or negative.", "Say positive or negative, in one word.")
WORSE = GOOD.replace("Say positive or negative.", "Say something.")
SUITE = """\
name: mood
prompts: [mood]
models: [house]
cases: data/mood.jsonl
scorers: [exact]
gates:
  - {scorer: exact, at_least: 0.6}
  - {scorer: exact, no_worse_than: baseline, margin: 0.05}
"""


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def model(root: Path, good: range = range(160)) -> None:
    """`house` answers by a function of instruction and case: quick, exact, and no network. `good`: the cases on
    which it is right by the first prompt."""
    code = f"""
RIGHT = {{
    "Say positive or negative.": {good},
    "Say positive or negative, in one word.": range(180),
    "Say something.": range(100),
}}

def answer(messages, params, seed):
    number = int(messages[-1]["content"].split()[-1])
    return "yes" if number in RIGHT[messages[0]["content"].strip()] else "no"
"""
    write(root, "house.py", code)


def make_repository(root: Path) -> Path:
    write(root, "prompts/mood.prompty", GOOD)
    write(root, "evals/mood.yaml", SUITE)
    write(root, "workbench.yaml", "models:\n  house: {engine: python, path: 'house.py:answer'}\n")
    rows = [{"id": f"c{i:03}", "text": f"case {i}", "expected": "yes"} for i in range(CASES)]
    write(root, "data/mood.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    model(root)
    return root


def call(root: Path, *arguments: str) -> int:
    return main(["--project", str(root), *arguments])
