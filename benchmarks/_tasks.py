"""What is asked in benchmarks/local_sweep.py: real cases, prompts with worked examples from the same set.

A task is a list of asks in the order in which a suite is written: prompts and parameters outside, repeats,
and cases inside.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from workbench.engines.llama import chat
from workbench.engines.llama.vocabulary import Vocabulary
from workbench.records import Message

ROOT = Path(__file__).resolve().parents[1]
REVIEWS = ROOT / "evals/data/vader_sentiment.jsonl"
SHARED = Path(os.environ.get("WORKBENCH_SHARED", ROOT.parent / "shared")) / "data"
MMLU = SHARED / "mmlu.jsonl"

TEMPERATURES = (0.2, 0.7, 1.0)
CHAIN = {"top_k": 40, "top_p": 0.95, "min_p": 0.05}
"""Named in full, so that all contenders sample alike whatever their defaults are."""
DOCUMENT_TOKENS = 1500
SETTINGS = (
    {"temperature": 0.3}, {"temperature": 0.6}, {"temperature": 0.9}, {"temperature": 1.2},
    {"temperature": 0.6, "top_p": 0.8}, {"temperature": 0.9, "top_p": 0.8},
    {"temperature": 0.9, "top_k": 20}, {"temperature": 0.9, "min_p": 0.1},
)  # fmt: skip
QUESTIONS = (
    "Which of these products would you buy?", "What do the customers complain about most?",
    "How many of the reviews are about films?", "Summarise the mood of the reviews in one word.",
    "Is the first review positive or negative?", "Name one thing that was praised.",
    "Which review is the angriest?", "Do the reviewers agree with each other?",
    "What should the shop improve first?", "Which review reads like an advertisement?",
    "Is there a review that you would not trust?", "What would a title for this collection be?",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing to be answered, for every contender: `messages` for ours, the same as `tokens` for the others."""

    messages: Sequence[Sequence[str]]
    """Pairs of role and text."""
    tokens: list[int]
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    choices: Sequence[str] = ()


class Tokeniser:
    """Messages → tokens of the model's own chat template, each prompt once."""

    def __init__(self, model: Path) -> None:
        self.vocabulary = Vocabulary(model)
        self._known: dict[tuple[tuple[str, str], ...], list[int]] = {}

    def __call__(self, turns: Sequence[tuple[str, str]]) -> list[int]:
        key = tuple(turns)
        if key not in self._known:
            self._known[key] = chat.tokens([Message.of(*turn) for turn in turns], self.vocabulary)
        return self._known[key]


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sweep(tokenise: Tokeniser, cases: int, repeats: int) -> list[Ask]:
    """2 prompts of about 250 shared tokens × cases × three temperatures × repeats."""
    rows = read_rows(REVIEWS)
    asks: list[Ask] = []
    for prompt in (_as_turns(rows[24::20]), _as_list(rows[30::20])):
        for temperature in TEMPERATURES:
            for _ in range(repeats):
                for row in rows[:cases]:
                    turns = prompt(row["text"])
                    params = {**CHAIN, "temperature": temperature}
                    asks.append(Ask(turns, tokenise(turns), params, len(asks)))
    return asks


def _as_turns(examples: Sequence[Mapping[str, Any]]) -> Any:
    """A prompt whose worked examples are earlier turns."""
    head = [("system", "Classify the sentiment of the text as positive or negative. Answer with one word.")]
    for row in examples:
        head += [("user", f"Text: {row['text']}"), ("assistant", str(row["label"]))]
    return lambda text: [*head, ("user", f"Text: {text}")]


def _as_list(examples: Sequence[Mapping[str, Any]]) -> Any:
    """A prompt whose worked examples stand in one message."""
    shown = "\n\n".join(f"Text: {row['text']}\nSentiment: {row['label']}" for row in examples)
    task = "You are a careful annotator of what people write. Decide whether each text is positive or negative."
    return lambda text: [("user", f"{task}\n\n{shown}\n\nText: {text}\nSentiment:")]


def long_document(tokenise: Tokeniser, questions: int) -> list[Ask]:
    """Questions on one document of 1,500 tokens × eight sampler settings."""
    document: list[str] = []
    for row in read_rows(REVIEWS):
        text = "\n\n".join([*document, row["text"]])
        if len(tokenise.vocabulary.tokens(text, special=False)) > DOCUMENT_TOKENS:
            break
        document.append(row["text"])
    head = "\n\n".join(document)
    asks: list[Ask] = []
    for setting in SETTINGS:
        for question in QUESTIONS[:questions]:
            turns = [("system", "You answer questions on customer reviews."), ("user", f"{head}\n\n{question}")]
            asks.append(Ask(turns, tokenise(turns), {**CHAIN, **setting}, len(asks)))
    return asks


def reviews_four_shot(tokenise: Tokeniser, count: int) -> list[Ask]:
    """Which of two words follows four worked examples and a review."""
    rows = read_rows(REVIEWS)
    prompt = _as_turns(rows[100::20])
    return _choosing(tokenise, ((prompt(row["text"]), ["positive", "negative"]) for row in rows[:count]))


def mmlu_letters(tokenise: Tokeniser, count: int) -> list[Ask]:
    """Five worked examples, the question with its four answers lettered; which letter follows."""
    rows = read_rows(MMLU)
    head = "\n\n".join(f"{_lettered(row)} {row['answer']}" for row in rows[-5:])
    prompts = ([("raw", f"{head}\n\n{_lettered(row)}")] for row in rows[:count])
    return _choosing(tokenise, ((prompt, [" A", " B", " C", " D"]) for prompt in prompts))


def mmlu_texts(tokenise: Tokeniser, count: int) -> list[Ask]:
    """The question alone; which of the four answers' texts follows."""
    rows = read_rows(MMLU)[:count]
    prompts = [([("raw", f"Question: {row['question']}\nAnswer:")], [f" {c}" for c in row["choices"]]) for row in rows]
    return _choosing(tokenise, prompts)


def _lettered(row: Mapping[str, Any]) -> str:
    answers = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", row["choices"], strict=True))
    return f"{row['question']}\n{answers}\nAnswer:"


def _choosing(tokenise: Tokeniser, prompts: Iterable[tuple[list[tuple[str, str]], list[str]]]) -> list[Ask]:
    return [Ask(turns, tokenise(turns), choices=choices) for turns, choices in prompts]


def short_prompts(tokenise: Tokeniser, count: int) -> list[Ask]:
    """`count` trials of short prompts that differ late, five repeats each."""
    asks: list[Ask] = []
    for number in range((count + 4) // 5):
        turns = [("raw", f"A fact about the number {number}:")]
        tokens = tokenise(turns)
        for _ in range(min(5, count - len(asks))):
            asks.append(Ask(turns, tokens, {**CHAIN, "temperature": 0.7}, len(asks)))
    return asks


def distinct_tokens(asks: Sequence[Ask]) -> int:
    """Nodes of the trie of all prompts: what has to be evaluated at least."""
    paths = sorted(ask.tokens for ask in asks)
    return len(paths[0]) + sum(len(path) - _common(before, path) for before, path in pairwise(paths))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
