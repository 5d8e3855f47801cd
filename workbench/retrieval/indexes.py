"""Vectors of documents in files: made whole or not at all, searched, removed when no run is left that used them.

Each is a Chroma collection, a folder of `.workbench/index` that has the id of its content for a name: it is never
changed, and can be removed at any time. Whoever uses one holds a shared lock meanwhile, from before it is looked for
until the run's header names it; `workbench store prune` takes the lock alone, so it removes none that is in use.
Chroma gives candidates (HNSW, which is approximate where there are more than `CANDIDATES` passages).
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np

from workbench.define.files import state_folder
from workbench.errors import UseError
from workbench.records import content_id

Vectors = np.ndarray[Any, np.dtype[np.float32]]
Ranked = Iterable[tuple[int, float]]
"""Positions and scores of passages that may be among the best, in any order."""

CANDIDATES = 100
"""That Chroma gives at least; so many passages or fewer are searched exactly."""
SCHEME, UNFINISHED = "ix1", ".new-"
_OURS = re.compile(rf"{SCHEME}-[0-9a-f]{{32}}|{re.escape(UNFINISHED)}[\w-]+")


@dataclass(frozen=True, slots=True)
class Index:
    """The files of one index."""

    key: str
    path: Path
    size: int
    """Bytes of its files."""


def index_key(identity: str, passages: Iterable[tuple[str, str]]) -> str:
    """The name of the index of these passages (id, text), embedded by the model with that identity."""
    return content_id(SCHEME, [identity, [list(passage) for passage in passages]])


def index_folder(root: Path) -> Path:
    """The folder of a project's indexes, made where it is not there. Raises UseError where it is reached by a link
    or can't be made."""
    return state_folder(root, "index")


@contextmanager
def in_use(root: Path) -> Iterator[None]:
    """Meanwhile no index of the project is removed. Waits while some are."""
    with _lock(index_folder(root)) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def not_in_use(root: Path) -> Iterator[list[Index] | None]:
    """All indexes of a project, and what unfinished ones left behind: none is used or made until the end of the block.
    None where some are in use now."""
    folder = root.resolve() / ".workbench" / "index"
    if folder.resolve() != folder or not folder.is_dir():
        yield []
        return
    with _lock(folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        ours = [path for path in sorted(folder.iterdir()) if _OURS.fullmatch(path.name) and not path.is_symlink()]
        yield [Index(path.name, path, _size(path)) for path in ours]


def remove(index: Index) -> None:
    """Removes an index that is not in use: at once, so that nobody finds a part of it. Raises UseError."""
    aside = index.path.with_name(UNFINISHED + index.key.removeprefix(UNFINISHED))
    try:
        shutil.rmtree(index.path.rename(aside))
    except OSError as error:
        raise UseError(f"the index {index.path} can't be removed: {error.strerror or error}") from error


def make_index(folder: Path, vectors: Vectors) -> None:
    """Beside its place, then moved there: another process that makes the same one finds it whole or not at all."""
    with TemporaryDirectory(dir=folder.parent, prefix=UNFINISHED, ignore_cleanup_errors=True) as temporary:
        made = Path(temporary) / "index"
        with _client(made) as client:
            how = {"space": "cosine", "ef_construction": 200, "ef_search": 2 * CANDIDATES, "num_threads": 1}
            collection = client.create_collection("passages", embedding_function=None, configuration={"hnsw": how})
            at_once = client.get_max_batch_size()
            for start in range(0, len(vectors), at_once):
                some = vectors[start : start + at_once]
                collection.add(ids=[str(start + i) for i in range(len(some))], embeddings=some)
        try:
            os.rename(made, folder)  # noqa: PTH104 - Path.rename says the same
        except OSError:
            if not folder.is_dir():
                raise


def nearest(folder: Path, queries: Vectors, count: int, most: int) -> Iterator[Ranked]:
    """For each query the positions of the nearest passages with their cosine; `count` is how many there are."""
    with _client(folder) as client:
        collection = client.get_collection("passages", embedding_function=None)
        if collection.count() != count:
            raise _damaged(folder, f"it holds {collection.count():,} passages of {count:,}")
        wanted = min(count, max(CANDIDATES, 2 * most))
        for query in queries:
            found = collection.query(query_embeddings=query[None], n_results=wanted, include=["distances"])
            yield [(int(i), 1 - d) for i, d in zip(found["ids"][0], found["distances"][0], strict=True)]


def _lock(folder: Path) -> IO[str]:
    """The file whose lock the processes hold."""
    path = folder.with_suffix(".lock")
    try:
        return path.open("a", encoding="ascii")
    except OSError as error:
        raise UseError(f"{path} can't be written: {error.strerror}") from error


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


@contextmanager
def _client(folder: Path) -> Iterator[Any]:
    """Chroma on a folder: nothing is sent, no model of its own is used, no `.env` is read."""
    import chromadb
    from chromadb.config import Settings
    from chromadb.errors import ChromaError

    client = None
    try:
        settings = Settings(_env_file=None, anonymized_telemetry=False)
        client = chromadb.PersistentClient(str(folder), settings=settings)
        yield client
    except (ChromaError, sqlite3.Error, OSError, ValueError) as error:
        raise _damaged(folder, str(error)) from error
    finally:
        if client is not None:
            client.close()


def _damaged(folder: Path, reason: str) -> UseError:
    told = " ".join(reason.split())[:120]
    return UseError(f"the index {folder} can't be used: {told}; remove that folder, it is made again from the store")
