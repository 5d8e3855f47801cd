"""What a suite searches before it asks: documents, how they are cut, and what differs between variants.

How many passages a variant gets, how documents are cut for it and by what they are found stands among its `vars`,
under names that no template can use (`retrieve.k`, `retrieve.search`, `retrieve.words`, `retrieve.overlap`): they are
axes like others, in labels, views, `--only` and baselines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import regex

from workbench.define.data import read_rows
from workbench.define.project import Project
from workbench.define.suite_file import DocumentsFile, Retrieve, SuiteFile
from workbench.define.yamlfile import Located
from workbench.errors import DataError, SuiteError
from workbench.records import EMPTY, Json, Prompt, Variant

PREFIX = "retrieve."
WORDS = "words"
"""The search that needs no model."""
MOST_PASSAGES = 100_000
"""That one way of cutting may make."""
_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[^\s\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, or a whole one."""

    id: str
    """The document's own, or `DOCUMENT:FIRST-LAST`, the words that it holds, counted from 1."""
    document: str
    text: str


def retrieve_axes(asked: Retrieve) -> dict[str, Json]:
    """What may differ between variants: name among their `vars` → a value or a list of them."""
    cut = {} if asked.chunk is None else {"words": asked.chunk.words, "overlap": asked.chunk.overlap}
    return {PREFIX + name: value for name, value in {"search": asked.search, **cut, "k": asked.k}.items()}


def load_retrieval(
    file: SuiteFile, project: Project, located: Located, variants: Sequence[Variant], prompts: Mapping[str, Prompt]
) -> Mapping[str, Json]:
    """What `Suite.retrieve` holds: `documents` ([id, text] pairs), `query`, `into`, and the `models` that embed.

    `prompts` by revision. Raises SuiteError, DataError, UnknownName for a model."""
    asked = file.retrieve
    if asked is None:
        return EMPTY
    with located.at("retrieve"):
        if all(asked.into not in {i.name for i in prompts[v.revision].inputs} for v in variants):
            raise SuiteError(f"no prompt has an input '{asked.into}', where passages go; declare it, or change 'into'")
        for variant in variants:
            _check(variant)
    models = dict.fromkeys(str(v.vars[PREFIX + "search"]) for v in variants)
    models.pop(WORDS, None)
    with located.at("retrieve", "search"):
        for alias in models:
            project.model(alias)
    documents = [[name, text] for name, text in _documents(asked.documents, project, located)]
    return {"documents": documents, "query": asked.query, "into": asked.into, "models": list(models)}


def as_given(variants: Sequence[Variant], retrieve: Mapping[str, Json]) -> Sequence[Variant]:
    """The variants with what their prompts get: passages, whichever they will be, in place of how to find them."""
    if not retrieve:
        return variants
    own: dict[str, Json] = {retrieve["into"]: []}
    return [replace(v, vars={n: x for n, x in v.vars.items() if not n.startswith(PREFIX)} | own) for v in variants]


def cut(documents: Sequence[tuple[str, str]], words: int | None, overlap: int = 0) -> Iterator[Passage]:
    """The passages of documents, each of at most so many words, in order; None: whole documents.

    White space between the words stays. The last passage ends with its document, so it may be shorter."""
    for name, text in documents:
        spans = [] if words is None else [found.span() for found in _WORD.finditer(text)]
        if words is None or len(spans) <= words:
            yield Passage(name, name, text.strip())
            continue
        for first in range(0, len(spans) - overlap, words - overlap):
            last = min(first + words, len(spans))
            yield Passage(f"{name}:{first + 1}-{last}", name, text[spans[first][0] : spans[last - 1][1]])


def _check(variant: Variant) -> None:
    """A written-out variant may have values of its own."""
    asked = {n.removeprefix(PREFIX): value for n, value in variant.vars.items() if n.startswith(PREFIX)}
    for name, value in asked.items():
        least = {"k": 1, "words": 1, "overlap": 0}.get(name)
        if least is None and (name != "search" or not isinstance(value, str)):
            raise SuiteError(f"'{PREFIX}{name}: {value}' can't be: known are search (a text), k, words and overlap")
        if least is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise SuiteError(f"'{PREFIX}{name}' must be a whole number of at least {least}, not {value!r}")
    if asked.get("overlap", 0) >= asked.get("words", 1):
        raise SuiteError(
            f"an overlap of {asked['overlap']} words does not fit into passages of {asked.get('words', 'no')}; "
            "passages must go forward"
        )


def _documents(source: str | DocumentsFile, project: Project, located: Located) -> Iterator[tuple[str, str]]:
    asked = DocumentsFile(file=source) if isinstance(source, str) else source
    with located.at("retrieve", "documents"):
        path = project.path(asked.file)
    first: dict[str, int | None] = {}
    for row in read_rows(path, project.shown(path)):
        name, text = row.get(asked.id), row.get(asked.text)
        if isinstance(name, bool) or not isinstance(name, (str, int)) or name == "":
            raise row.fail(f"the id in field '{asked.id}' must be text or a whole number")
        if not isinstance(text, str) or not text.strip():
            raise row.fail(f"the field '{asked.text}' of document '{name}' must be text, and not empty")
        if str(name) in first:
            raise row.fail(f"two documents have the id '{name}', lines {first[str(name)]} and {row.line}; rename one")
        first[str(name)] = row.line
        yield str(name), text
    if not first:
        raise DataError("holds no documents", project.shown(path))
