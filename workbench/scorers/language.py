"""Scorers of the language of an answer and of how hard it is to read, by packages of the extra `scorers`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

from workbench.errors import UseError
from workbench.records import Judgement
from workbench.scorers.base import Answered, judged, passed

Measure = Literal["flesch_kincaid", "flesch", "lix"]

UNDETERMINED = "und"
"""ISO 639-2's code for a language that can't be told."""
MOST_CHARACTERS = 20_000
"""Of an answer that are looked at: enough to tell a language or a style by."""

SENTENCE_END = re.compile(r"[.!?…]+(?=[\s\"'”’)\]]|\Z)|\n\s*\n")
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|[A-Z])\.")


def need(package: str, scorer: str) -> None:
    """Raises UseError where an optional package is not installed: before the run, not at its first answer."""
    if find_spec(package) is None:
        raise UseError(f"the scorer '{scorer}' needs {package}: pip install 'prompt-workbench[scorers]'")


@dataclass(frozen=True)
class Language:
    """The language that the answer is written in, by py3langid (Lui and Baldwin 2012, ACL demos: naive Bayes over
    byte n-grams; 97 languages, no download). Without `languages` a label. A guess: below some 50 characters it is
    often wrong, and `among` helps."""

    languages: str | Sequence[str] | None = None
    """With it, pass or fail: the ISO 639-1 code, such as `de`, or several of which any is right."""
    among: Sequence[str] = field(default=())
    """The languages that it can be at all; empty: all that the package knows."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "languages"

    def __post_init__(self) -> None:
        need("py3langid", "language")
        if self.languages is not None and not self._wanted:
            raise UseError("language: no language is given; name one, such as: de")
        known = {str(name) for name in self._identifier.labels}
        for code in (*self._wanted, *self.among):
            if code not in known:
                raise UseError(f"language: '{code}' is no language that py3langid tells; it tells {sorted(known)}")
        missing = [code for code in self._wanted if self.among and code not in self.among]
        if missing:
            raise UseError(f"language: '{missing[0]}' is wanted, but not in 'among'; add it there")
        if self.among:
            self._identifier.set_languages(list(self.among))

    def __call__(self, answer: Answered) -> Judgement:
        text = answer.text[:MOST_CHARACTERS]
        if any(character.isalpha() for character in text):
            found, share = self._identifier.classify(text)
            told = f"{found} (probability {share:.2f})"
        else:
            found, told = UNDETERMINED, "there are no letters to tell a language by"
        if self.languages is None:
            return judged(str(found), "label", told)
        return passed(found in self._wanted, f"{told}, wanted {' or '.join(self._wanted)}")

    @property
    def _wanted(self) -> tuple[str, ...]:
        return (self.languages,) if isinstance(self.languages, str) else tuple(self.languages or ())

    @cached_property
    def _identifier(self) -> Any:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@dataclass(frozen=True)
class Readability:
    """How hard the answer is to read: a school grade or an index, from the lengths of its sentences and words.

    `flesch_kincaid`: US school grade, 0.39·words/sentence + 11.8·syllables/word − 15.59 (Kincaid et al. 1975, Naval
    Technical Training RBR 8-75). `flesch`: reading ease, 206.835 − 1.015·words/sentence − 84.6·syllables/word (Flesch
    1948, J. Appl. Psychol. 32:221); high is easy. Both are for English; syllables are counted by pyphen's American
    hyphenation, which leaves single letters unparted ("idea" is one), so grades lie a little low. `lix`:
    words/sentence + 100·share of words over six letters (Björnsson 1968), for any language of letters and spaces."""

    measure: Measure = "flesch_kincaid"
    at_most: float | None = None
    """With one of these, pass or fail."""
    at_least: float | None = None
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "measure"

    def __post_init__(self) -> None:
        if self.measure != "lix":
            need("pyphen", "readability")
        if self.at_most is not None and self.at_least is not None and self.at_least > self.at_most:
            raise UseError(f"readability: at_least {self.at_least:g} is above at_most {self.at_most:g}")

    def __call__(self, answer: Answered) -> Judgement:
        text = answer.text[:MOST_CHARACTERS]
        words = WORD.findall(text)
        if not words:
            return Judgement(None, "number", "there are no words to read")
        sentences = len([part for part in SENTENCE_END.split(ABBREVIATION.sub("", text)) if WORD.search(part)]) or 1
        value, rest = self._value(words, len(words) / sentences)
        reason = f"{self.measure} {value:.1f} ({len(words)} words, {sentences} sentences, {rest})"
        if self.at_most is None and self.at_least is None:
            return judged(value, "number", reason)
        low = self.at_least is None or value >= self.at_least
        high = self.at_most is None or value <= self.at_most
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (("at least", self.at_least), ("at most", self.at_most))
            if bound is not None
        ]
        return passed(low and high, f"{reason}, wanted {' and '.join(bounds)}")

    def _value(self, words: Sequence[str], length: float) -> tuple[float, str]:
        if self.measure == "lix":
            share = sum(sum(map(str.isalpha, word)) > 6 for word in words) / len(words)
            return length + 100 * share, f"{100 * share:.0f} % of words over six letters"
        syllables = sum(1 + len(self._hyphens.positions(word.lower())) for word in words) / len(words)
        told = f"{syllables:.2f} syllables a word"
        if self.measure == "flesch":
            return 206.835 - 1.015 * length - 84.6 * syllables, told
        return 0.39 * length + 11.8 * syllables - 15.59, told

    @cached_property
    def _hyphens(self) -> Any:
        from pyphen import Pyphen

        return Pyphen(lang="en_US", left=1, right=1)
