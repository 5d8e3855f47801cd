"""Passages for each case, looked up before its prompt is written: by words, or by the nearness of embeddings.

Embeddings are asked like a judge's questions: looked up in the store, asked within the budgets, committed before they
count, so that nothing is embedded twice. Those of the documents are kept in an index for each (documents, way of
cutting them, model); its candidates are put in order here, ties by id, so that the same index gives the same passages.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import regex

from workbench.asking import Ask, Asker, Judging, traced
from workbench.define.retrieve import MOST_PASSAGES, PREFIX, WORDS, Passage, cut
from workbench.define.template import render_value
from workbench.engines.base import Engine
from workbench.errors import DataError, EngineError, SuiteError, WorkbenchError
from workbench.flight import Room
from workbench.records import Case, Json, Message, Request, Suite
from workbench.retrieval.indexes import Ranked, Vectors, in_use, index_folder, index_key, make_index, nearest
from workbench.run.plan import Asked, identified
from workbench.run.send import Dispatcher
from workbench.scorers.semantic import EMBEDDING
from workbench.store import recording
from workbench.store.database import Database
from workbench.store.retrieved import how_found
from workbench.tracing import about_run

Found = Mapping[tuple[str, str], list[Json]]
"""(how, case) → passages {id, document, text, score}, the best first, as many as any variant wants."""
Embed = Callable[[str, Sequence[str]], Vectors | None]
"""A model's alias and texts → a row each; None where they can't be had without asking."""

DIGITS = 4
"""Of a score: what is equal so far is equal."""
K1, B = 1.2, 0.75
AT_ONCE = 64
"""Texts that one job embeds."""
_TERM = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\w--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]]+", regex.V1
)


@dataclass(frozen=True, slots=True)
class Way:
    """One way of finding passages."""

    how: str
    """Its name in the store."""
    search: str
    """`words`, or a model's alias."""
    passages: tuple[Passage, ...]
    most: int
    """How many any variant wants."""


def with_passages(case: Case, suite: Suite, variables: Mapping[str, Json], found: Found) -> Case:
    """The case as a variant with these `vars` sees it: its passages are one of the inputs."""
    how, most = how_found(variables)
    return replace(case, inputs={**case.inputs, suite.retrieve["into"]: found[how, case.id][:most]})


def check_models(suite: Suite, engines: Mapping[str, Engine]) -> None:
    """Raises SuiteError where a model gives no embeddings, or Chroma is not installed."""
    models = suite.retrieve.get("models", ())
    if models and find_spec("chromadb") is None:
        what = "'retrieve' by embeddings needs chromadb; install it with: pip install 'prompt-workbench[retrieval]'"
        raise SuiteError(what, suite.path)
    for alias in models:
        if not engines[alias].capabilities.embeddings:
            raise SuiteError(
                f"retrieve: model '{alias}' gives no embeddings; name a local one with 'options: {{pooling: mean}}', a "
                f"hosted one with 'api: embeddings', or search: {WORDS}",
                suite.path,
            )


def find_by_words(suite: Suite) -> Found:
    """Every variant's passages by word search: for those that search by embeddings it stands in, so that prompts are
    checked and plans estimated before anything is asked. Raises DataError for a case without a query."""
    return _find(suite, _by_words)


def using_indexes(suite: Suite, root: Path) -> AbstractContextManager[None]:
    """Held while the suite's passages are looked up, and until it is written down which indexes that rests on."""
    return in_use(root) if suite.retrieve.get("models") else nullcontext()


def find_passages(
    suite: Suite, room: Room, root: Path, judging: Judging, watch: Callable[[], None] = lambda: None
) -> tuple[Found, list[str]]:
    """Every variant's passages, and the names of the indexes they rest on; asks for the embeddings that the store and
    the index lack, and calls `watch` meanwhile. The caller holds `using_indexes`.

    Raises EngineError where a text can't be embedded, WorkbenchError where a budget ended it, KeyboardInterrupt after a
    stop: what was embedded is kept."""
    if not room.engines:
        return find_by_words(suite), []
    used: set[str] = set()
    title = f"retrieve {suite.name}", about_run(room.run, suite)
    with traced(title, suite.models, room.engines, judging) as ended:
        with Dispatcher(room.engines, ended=ended) as dispatcher:
            asker = Asker(room, dispatcher, judging)
            embed = partial(_ask_vectors, asker, room, judging, watch)
            found = _find(suite, partial(_search, room.engines, root, embed, used))
        asker.close()
    return found, sorted(used)


def find_known(suite: Suite, engines: Mapping[str, Engine], root: Path, database: Database | None) -> tuple[Found, int]:
    """Every variant's passages without asking, and how many texts are left to embed for them: where any are, word
    search stands in."""
    lacking: set[str] = set()

    def known(alias: str, texts: Sequence[str]) -> Vectors | None:
        asked = Asked(engines[alias].identity, engines[alias].capabilities)
        ids = [identified(_request(alias, text), asked).id for text in texts]
        there = {}
        if database is not None:
            with database.read() as connection:
                there = recording.known(connection, ids)
        lacking.update(i for i in ids if i not in there)
        return None if lacking else _rows(there[i].output.extra["embedding"] for i in ids)

    with using_indexes(suite, root):
        found = _find(suite, partial(_search, engines, root, known, set()))
    return (find_by_words(suite), len(lacking)) if lacking else (found, 0)


def rank_by_words(texts: Sequence[str], queries: Sequence[str]) -> Iterator[list[tuple[int, float]]]:
    """For each query (position, score) of the texts that share a word with it.

    Okapi BM25 with k1 = 1.2 and b = 0.75 (Robertson & Zaragoza 2009, Found. Trends Inf. Retr. 3:333, section 3.4), with
    Lucene's idf, ln(1 + (N − n + ½)/(n + ½)), which is never negative. A word is a run of letters and digits, without
    regard to case; where a script parts no words, a character."""
    counts = [Counter(_TERM.findall(text.casefold())) for text in texts]
    lengths = [count.total() for count in counts]
    mean = sum(lengths) / max(len(lengths), 1) or 1.0
    places: dict[str, list[int]] = {}
    for i, count in enumerate(counts):
        for term in count:
            places.setdefault(term, []).append(i)
    for query in queries:
        scores: dict[int, float] = {}
        for term, times in Counter(_TERM.findall(query.casefold())).items():
            there = places.get(term, [])
            idf = math.log(1 + (len(texts) - len(there) + 0.5) / (len(there) + 0.5))
            for i in there:
                tf, norm = counts[i][term], 1 - B + B * lengths[i] / mean
                scores[i] = scores.get(i, 0.0) + times * idf * tf * (K1 + 1) / (tf + K1 * norm)
        yield list(scores.items())


def _find(suite: Suite, search: Callable[[Way, Sequence[str]], Iterable[Ranked]]) -> Found:
    queries = _queries(suite)
    found: dict[tuple[str, str], list[Json]] = {}
    for way in _ways(suite):
        for case, ranked in zip(queries, search(way, list(queries.values())), strict=True):
            rounded = [(round(score, DIGITS), way.passages[i]) for i, score in ranked]
            best = sorted(rounded, key=lambda pair: (-pair[0], pair[1].id))[: way.most]
            found[way.how, case] = [
                {"id": p.id, "document": p.document, "text": p.text, "score": score} for score, p in best
            ]
    return found


def _queries(suite: Suite) -> dict[str, str]:
    """Case → what is looked up for it."""
    found = {}
    for case in suite.cases:
        try:
            found[case.id] = str(render_value(suite.retrieve["query"], case.inputs)).strip()
        except WorkbenchError as error:
            raise DataError(f"case '{case.id}', the query of 'retrieve': {error}", *case.place) from error
        if not found[case.id]:
            what = f"case '{case.id}': the query of 'retrieve' is empty; give the case what it is made of"
            raise DataError(what, *case.place)
    return found


def _ways(suite: Suite) -> list[Way]:
    """The different ways in which the suite's variants find passages."""
    documents = [(name, text) for name, text in suite.retrieve["documents"]]
    asked: dict[str, tuple[Mapping[str, Json], int]] = {}
    for variant in suite.variants:
        how, wanted = how_found(variant.vars)
        asked[how] = (variant.vars, max(wanted, asked[how][1] if how in asked else 0))
    pieces: dict[tuple[int | None, int], tuple[Passage, ...]] = {}
    ways = []
    for how, (variables, most) in asked.items():
        size = (variables.get(PREFIX + "words"), variables.get(PREFIX + "overlap", 0))
        pieces[size] = pieces.get(size) or tuple(cut(documents, *size))
        if len(pieces[size]) > MOST_PASSAGES:
            what = f"the documents make {len(pieces[size]):,} passages, more than {MOST_PASSAGES:,}"
            raise SuiteError(f"{what}; make chunk.words larger", suite.path)
        ways.append(Way(how, variables[PREFIX + "search"], pieces[size], most))
    return ways


def _by_words(way: Way, queries: Sequence[str]) -> Iterable[Ranked]:
    return rank_by_words([passage.text for passage in way.passages], queries)


def _search(
    engines: Mapping[str, Engine], root: Path, embed: Embed, used: set[str], way: Way, queries: Sequence[str]
) -> Iterable[Ranked]:
    """By words, or by the cosine of embeddings: then the index's name is added to `used`."""
    if way.search == WORDS:
        return _by_words(way, queries)
    key = index_key(engines[way.search].identity, [(p.id, p.text) for p in way.passages])
    used.add(key)
    folder = index_folder(root) / key
    if not folder.exists():
        vectors = embed(way.search, [passage.text for passage in way.passages])
        if vectors is not None:
            make_index(folder, vectors)
    asked = embed(way.search, queries)
    return [[] for _ in queries] if asked is None else nearest(folder, asked, len(way.passages), way.most)


def _request(alias: str, text: str) -> Request:
    return Request("", alias, (Message.of("user", text),), answer=EMBEDDING)


def _rows(embeddings: Iterable[Sequence[float]]) -> Vectors:
    return np.array(list(embeddings), dtype=np.float32)


def _ask_vectors(
    asker: Asker, room: Room, judging: Judging, watch: Callable[[], None], alias: str, texts: Sequence[str]
) -> Vectors:
    """The texts' embeddings, asked as far as they are not in the store."""
    parts: dict[int, Vectors] = {}

    def job(start: int, ask: Ask) -> None:
        some = texts[start : start + AT_ONCE]
        outputs = ask([_request(alias, text) for text in some])
        for text, output in zip(some, outputs, strict=True):
            if output.failure is not None:
                short = " ".join(text.split())[:60]
                smaller = "; make chunk.words smaller" if output.failure.kind == "too_long" else ""
                raise EngineError(f"'{alias}' can't embed '{short} …': {output.failure.message}{smaller}")
        parts[start] = _rows(output.extra["embedding"] for output in outputs)
        judging.made += len(some)

    judging.planned += len(texts)
    asker.drive((partial(job, start) for start in range(0, len(texts), AT_ONCE)), watch)
    if judging.stopped_by:
        raise WorkbenchError(f"stopped before a limit, while passages were looked up: {judging.stopped_by}")
    if room.stop.is_set():
        raise KeyboardInterrupt
    return np.concatenate([parts[start] for start in sorted(parts)])
