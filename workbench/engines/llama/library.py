"""The one place that imports llama_cpp, and keeps what it would write to stderr.

Before the import the threads of OpenMP are told how to wait. By default they spin for milliseconds, so that two
processes on the same cores starve each other (measured: 136 s instead of 13 s for two sweeps); if they only sleep,
a process that is alone decodes one answer at a time at a third of the speed. A short spin, then sleep, has both:
117 tokens/s alone (asleep 41, spinning 98), 45 in each of two processes at once (asleep 46, spinning 35).
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from workbench.errors import ModelError

_ERROR = 4
"""`GGML_LOG_LEVEL_ERROR` as llama_cpp hands it on."""

WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "300"}
"""How threads wait for each other; `GOMP_SPINCOUNT` is libgomp's own and other runtimes don't read it."""

_errors: deque[str] = deque(maxlen=8)
_callbacks: list[Any] = []
"""llama.cpp keeps only a pointer to the callback: the reference has to stay alive here."""


def _missing() -> ModelError:
    return ModelError("local models need llama-cpp-python: pip install 'prompt-workbench[llama]'")


@cache
def load() -> Any:
    """The module llama_cpp, silenced; raises ModelError naming the extra where it is not installed."""
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    try:
        library = import_module("llama_cpp")
    except ImportError as error:
        raise _missing() from error

    def keep(level: int, text: bytes, _: Any) -> None:
        if level == _ERROR:
            _errors.append(text.decode(errors="replace").strip())

    callback = library.llama_log_callback(keep)
    _callbacks.append(callback)
    library.llama_log_set(callback, ctypes.c_void_p(0))
    library.llama_backend_init()
    return library


def installed_version() -> str:
    """The version of llama-cpp-python, and so of its llama.cpp; nothing is imported for it."""
    try:
        return version("llama-cpp-python")
    except PackageNotFoundError as error:
        raise _missing() from error


def explain() -> str:
    """Why the last call failed, in llama.cpp's own words, as one line; forgets what it told."""
    lines = list(_errors)
    _errors.clear()
    told = next((line for line in lines if "error loading model: " in line), lines[0] if lines else "")
    return told.rpartition("error loading model: ")[2] or "llama.cpp gives no reason"
