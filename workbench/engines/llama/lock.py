"""One process decodes at a time: two that share the cores take longer together than one after the other.

A process that goes first (`go_first`: the app, for whoever sits before it) holds a second lock, shared, from when
it wants its turn until it gives it back. The others look for it whenever they take a turn, also while they have
one, which they then hand over; a sweep takes a turn for each of its blocks.
"""

from __future__ import annotations

import fcntl
import logging
import os
from threading import Lock
from typing import IO, Self

from workbench.engines.llama.files import cache_folder

_log = logging.getLogger("workbench.llama")
_guard = Lock()
_holders = 0
_file: IO[str] | None = None
_first: IO[str] | None = None
_goes_first = False
_waits_for = ""


def go_first() -> None:
    """This process need not wait for the end of another's sweep, only of the block under way."""
    global _goes_first
    _goes_first = True


def waits_for() -> str:
    """The id of the process whose turn it is while this one waits for its own; empty otherwise."""
    return _waits_for


class Turn:
    """The machine's turn to decode; both calls may be repeated. As a context it is given back at the end.

    Within a process the turn is shared: its engines are told apart by whoever runs them.
    """

    def __init__(self) -> None:
        self._held = False

    def take(self) -> None:
        """Waits for another process that has it, and says once for which (a warning in the log)."""
        if self._held and _is_asked_for():
            self.give_back()
        if not self._held:
            _enter()
            self._held = True

    def give_back(self) -> None:
        if self._held:
            _leave()
            self._held = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()


def _enter() -> None:
    global _holders, _file
    with _guard:
        if _holders == 0:
            _file = _locked()
        _holders += 1


def _leave() -> None:
    global _holders, _file, _first
    with _guard:
        _holders -= 1
        if _holders == 0:
            for file in (_file, _first):
                if file is not None:
                    file.close()  # gives the lock back
            _file = _first = None


def _is_asked_for() -> bool:
    """Whether a process that goes first waits for the turn that only one of ours has."""
    if _goes_first or _holders != 1:
        return False
    with _opened("decode-first.lock") as file:
        return not _taken(file, fcntl.LOCK_EX)


def _locked() -> IO[str]:
    global _first, _waits_for
    first = _opened("decode-first.lock")
    how = fcntl.LOCK_SH if _goes_first else fcntl.LOCK_EX
    if not _taken(first, how):
        _log.info("waiting for an app that goes first")
        fcntl.flock(first, how)
    if _goes_first:
        _first = first
    else:
        first.close()
    file = _opened("decode.lock")
    if not _taken(file, fcntl.LOCK_EX):
        file.seek(0)
        _waits_for = file.read().strip() or "(unknown)"
        _log.warning("waiting for process %s, which uses a local model", _waits_for)
        fcntl.flock(file, fcntl.LOCK_EX)
        _waits_for = ""
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


def _opened(name: str) -> IO[str]:
    return (cache_folder() / name).open("a+", encoding="ascii")


def _taken(file: IO[str], how: int) -> bool:
    """Whether the lock could be had at once."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
