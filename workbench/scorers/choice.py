"""Which of the given choices a free text names.

Every place where a choice stands as a word of its own is a mention; where several choices fit, the longest
wins, so "very good" is not "good". A mention right behind "not" and its like is a denial and does not count.
If the mentions that count are all of one choice, that is the answer. Else the text must say which it means,
in this order: by a marker ("Answer: X"; the last one), by a first line that is nothing but a choice, by such
a last line, by opening with it ("X, because …"). A list of choices ("X or Y?", lines that open with different
ones) names none. What is left is unclear, and an unclear answer is wrong.

The rules were held against answers of SmolLM2 to sentiment and letter questions; some are in the test table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

from workbench.errors import ScorerError, UseError
from workbench.records import Judgement
from workbench.scorers.base import Answered, passed, quote, references
from workbench.scorers.text import fold

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Thai, Lao, Burmese, Khmer, kana and Han: scripts without spaces between words, so any place is a boundary."""
WORD = rf"[^\W_{UNSPACED}]"
STRIPPED = " \t\r\n\"'“”‘’«»*_`#>(){}[]<.,:;!?。，：；！？、"
"""What may stand around an answer without being part of it: quotes, brackets, emphasis, punctuation."""
EDGES = re.escape(STRIPPED + "-")

DENIAL = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|than|instead of)|n['’]t|\bnon)"
    r"(?:[ \t\"'“‘*_(-]+(?:a|an|the|be|is|at all|really|very|quite|necessarily|clearly))*[ \t\"'“‘*_(-]+$"
    r"|(?:不是|并非|並非|不|非)[\"“「]?$",
    re.IGNORECASE,
)
MARKER = re.compile(
    r"(?:\b(?:answer|label|class|classification|category|choice|option|verdict|sentiment|rating|prediction)"
    rf"[{EDGES}]*?(?:\b(?:is|would be)\b|[:：=])|答案(?:是|为|為)?|####|\\boxed\{{(?:\\\w+\{{)?)[{EDGES}]*$",
    re.IGNORECASE,
)
LISTING = re.compile(rf"[{EDGES}/|&]*(?:\b(?:or|and|vs)\b)?[{EDGES}/|&]*|(?:或者?|和|与|與|还是|還是|、)")
ARTICLE = re.compile(r"\s+(?!(?:is|was|or|and|vs|because|since|\w)\b)[\w$€£]", re.IGNORECASE)
"""What follows "A" or "I" where it opens a sentence as a word: "A good question.", "C. A $1 ticket"."""
INPUT = re.compile(r"\{\{\s*(\w+)\s*\}\}")
BEFORE = 48
"""How many characters before a mention can make it a denial or mark it."""


class Mention(NamedTuple):
    """One place where a choice stands."""

    choice: str
    start: int
    end: int


def find_choice(text: str, choices: Sequence[str], ignore_case: bool = True) -> tuple[str | None, str]:
    """The choice that the text names, or None; and how that was seen."""
    text = fold(text, ignore_case=False)
    whole = (fold(text.strip(), ignore_case), fold(_bare(text), ignore_case))
    for choice in choices:
        if fold(choice.strip(), ignore_case) in whole:
            return choice, "the whole answer"
    seen = _mentions(text, tuple(choices), ignore_case)
    meant = [m for m in seen if not DENIAL.search(text[max(0, m.start - BEFORE) : m.start])]
    if not meant:
        return None, "only denied" if seen else "none of the choices is named"
    named = list(dict.fromkeys(m.choice for m in meant))
    if len(named) == 1:
        return named[0], "the only one named"
    said = _said(text, meant)
    return said or (None, "unclear: names " + ", ".join(map(quote, named[:4])))


def _said(text: str, meant: Sequence[Mention]) -> tuple[str, str] | None:
    """Of several choices the one that the text says it means."""
    single = [m for m, after in zip(meant, [*meant[1:], None], strict=True) if not _listed(text, m, after)]
    heads = {_line(text, m): m.choice for m in meant if _opens_line(text, m)}
    several = len(set(heads.values())) > 1
    marked = [m for m in single if _is_marked(text, m) and not (several and _line(text, m) in heads)]
    if marked:
        return marked[-1].choice, "marked as the answer"
    first, last = meant[0], meant[-1]
    opens = first in single and not _bare(text[: first.start])
    if opens and _fills_line(text, first):
        return first.choice, "alone on the first line"
    if not _bare(text[last.end :]) and _fills_line(text, last):
        return last.choice, "alone on the last line"
    if opens and not several and (len(first.choice) > 1 or text[first.end] in ").,:;*]"):
        return first.choice, "opens the answer"
    return None


def _is_marked(text: str, mention: Mention) -> bool:
    return bool(MARKER.search(text[max(0, mention.start - BEFORE) : mention.start]))


def _line(text: str, mention: Mention) -> int:
    """Where the mention's line starts."""
    return text.rfind("\n", 0, mention.start) + 1


def _opens_line(text: str, mention: Mention) -> bool:
    left = _line(text, mention)
    return mention.start - left < BEFORE and not _bare(text[left : mention.start])


def _mentions(text: str, choices: tuple[str, ...], ignore_case: bool) -> list[Mention]:
    pattern, order = _pattern(choices, ignore_case)
    found = [Mention(order[(m.lastindex or 1) - 1], m.start(), m.end()) for m in pattern.finditer(text)]
    return [m for m in found if not _is_article(text, m)]


@lru_cache(maxsize=512)
def _pattern(choices: tuple[str, ...], ignore_case: bool) -> tuple[re.Pattern[str], list[str]]:
    """The choices, longest first, as one pattern with a group each."""
    order = sorted(choices, key=len, reverse=True)
    parts = "|".join(f"({_word(fold(choice, ignore_case=False))})" for choice in order)
    return re.compile(parts, re.IGNORECASE if ignore_case else 0), order


def _word(choice: str) -> str:
    """A pattern for one choice as a word of its own. "card_arrival" and "card arrival" are one; a digit is
    not part of a number, nor the 5 of "4/5"; a single letter keeps its case, for "a" is a word."""
    pieces = re.split(r"(?<=[^\W_])[\s_-]+(?=[^\W_])", choice)
    body = r"[\s_-]+".join(map(re.escape, pieces))
    left = rf"(?<!{WORD})" if re.match(WORD, choice) else ""
    right = rf"(?!{WORD}|[+#])" if re.match(WORD, choice[-1]) else ""
    if choice[0].isdigit():
        left += r"(?<![-−])(?<!\d[.,/])(?<!out of )"
    if choice[-1].isdigit():
        right += r"(?![.,-]\d)"
    return left + (f"(?-i:{body})" if len(choice) == 1 else body) + right


def _listed(text: str, mention: Mention, after: Mention | None) -> bool:
    """Whether another choice follows at once: "positive or negative"; but not in "C. B cells"."""
    if after is None or after.choice == mention.choice:
        return False
    if len(mention.choice) == 1 and text[mention.end] in ".):" and _opens_line(text, mention):
        return False
    return bool(LISTING.fullmatch(text, mention.end, after.start))


def _bare(text: str) -> str:
    return text.strip(STRIPPED)


def _fills_line(text: str, mention: Mention) -> bool:
    """Whether the mention's line holds nothing else."""
    left = _line(text, mention)
    right = text.find("\n", mention.end)
    return not _bare(text[left : mention.start]) and not _bare(text[mention.end : right if right >= 0 else len(text)])


def _is_article(text: str, mention: Mention) -> bool:
    """Whether "A" or "I" opens a sentence as a word: "A good question."."""
    before = text[max(0, mention.start - 4) : mention.start].rstrip(" \t")
    opens = not before or before[-1] in ".!?\n"
    follows = ARTICLE.match(text, mention.end) if mention.choice in ("A", "I") and opens else None
    return follows is not None and not (mention.start == 0 and text[follows.end() - 1].isupper())


@dataclass(frozen=True)
class Choice:
    """The free text names the expected one of the choices; an answer that names several, or none, is wrong."""

    choices: list[str | int] | str
    """What can be chosen, or `{{ name }}`: the case's input that holds the list."""
    ignore_case: bool = True
    """Single letters in a sentence are always taken in their own case."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = "choices"

    def __post_init__(self) -> None:
        if isinstance(self.choices, list):
            self._checked(self.choices)
        elif not INPUT.fullmatch(self.choices):
            raise UseError(
                f"choices is the text {quote(self.choices)}; give a list, or '{{{{ name }}}}' for the case's input "
                "that holds the list"
            )

    def __call__(self, answer: Answered) -> Judgement:
        choices = self._of_case(answer)
        right = [self._known(text, choices) for text in references(answer)]
        found, how = find_choice(answer.text, choices, self.ignore_case)
        if found is None:
            return passed(False, f"{how}: {quote(answer.text)}")
        if found in right:
            return passed(True, f"{found}: {how}")
        return passed(False, f"{found}: {how}; expected {' or '.join(right)}; {quote(answer.text)}")

    def _of_case(self, answer: Answered) -> list[str]:
        if isinstance(self.choices, list):
            return [str(choice) for choice in self.choices]
        name = INPUT.sub(r"\1", self.choices)
        value = answer.case.inputs.get(name)
        if not isinstance(value, (list, tuple)):
            raise ScorerError(f"case '{answer.case.id}': its input '{name}' holds no list of choices")
        try:
            return self._checked(value)
        except UseError as error:
            raise ScorerError(f"case '{answer.case.id}', input '{name}': {error}") from None

    def _checked(self, choices: Sequence[object]) -> list[str]:
        texts = [str(choice) for choice in choices]
        folded = [fold(text, self.ignore_case).strip() for text in texts]
        if len(texts) < 2 or "" in folded:
            raise UseError("choices needs at least two texts, none of them empty")
        twice = next((text for text, form in zip(texts, folded, strict=True) if folded.count(form) > 1), None)
        if twice is not None:
            raise UseError(f"choices holds {quote(twice)} twice" + (", case aside" if self.ignore_case else ""))
        return texts

    def _known(self, expected: str, choices: list[str]) -> str:
        form = fold(expected.strip(), self.ignore_case)
        for choice in choices:
            if fold(choice.strip(), self.ignore_case) == form:
                return choice
        raise ScorerError(f"the expected answer {quote(expected)} is none of the choices: {', '.join(choices)}")
