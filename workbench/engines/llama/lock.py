"""One process decodes at a time: two that share the cores take longer together than one after the other."""

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


class Turn:
    """The machine's turn to decode; both calls may be repeated. As a context it is given back at the end.

    Within a process the turn is shared: its engines are told apart by whoever runs them.
    """

    def __init__(self) -> None:
        self._held = False

    def take(self) -> None:
        """Waits for another process that has it, and says once for which (a warning in the log)."""
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
    global _holders, _file
    with _guard:
        _holders -= 1
        if _holders == 0 and _file is not None:
            _file.close()  # gives the lock back
            _file = None


def _locked() -> IO[str]:
    file = (cache_folder() / "decode.lock").open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        _log.warning("waiting for process %s, which uses a local model", file.read().strip() or "(unknown)")
        fcntl.flock(file, fcntl.LOCK_EX)
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file
