"""Other quantisations of a model, made once by llama.cpp itself and kept in the cache folder.

What is made from an already quantised file keeps that file's losses: F16 from Q4_1 is bigger, not better,
and is described as "from q4_1".
"""

from __future__ import annotations

import ctypes
import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from workbench.engines.llama import files, library
from workbench.errors import ModelError, suggest

_FTYPE = re.compile(r"LLAMA_FTYPE_(?:MOSTLY|ALL)_(\w+)$")


@cache
def formats() -> dict[str, int]:
    """Name in lower case (`q4_0`, `q8_0`, `f16`, …) → llama.cpp's number, from its own constants."""
    lib = library.load()
    found = ((_FTYPE.match(name), name) for name in dir(lib))
    return {match[1].lower(): getattr(lib, name) for match, name in found if match}


def format_name(number: str | None) -> str | None:
    """The name of the `general.file_type` that a GGUF's metadata gives."""
    names = {str(value): name for name, value in formats().items()}
    return None if number is None else names.get(number, f"type {number}")


def check_format(name: object) -> str:
    """The format's name in lower case; raises ModelError naming the nearest."""
    wanted = str(name).lower()
    if wanted not in formats():
        raise ModelError(f"unknown quantisation '{name}'{suggest(wanted, formats())}")
    return wanted


def cached_path(source: Path, form: str) -> Path:
    """Where that quantisation of that content is kept, whether it is there yet or not."""
    name = f"{source.stem}.{files.sha256(source)[:16]}.llama-{library.installed_version()}.{form}.gguf"
    return files.cache_folder() / "models" / name


def is_made(source: Path, form: str) -> bool:
    """Whether it is there, by name only: nothing is hashed that is not hashed yet."""
    name = cached_path(source, form) if files.is_hashed(source) else None
    return name is not None and name.is_file()


def quantised(source: Path, form: str) -> Path:
    """The file of that quantisation, made where it is missing or no longer what was written.

    Raises ModelError where llama.cpp cannot make it or the disk is full.
    """
    target = cached_path(source, check_format(form))
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target):
        if not _intact(target):
            _make(source, target, form)
    return target


def _intact(target: Path) -> bool:
    sidecar = _sidecar(target)
    return target.is_file() and sidecar.is_file() and sidecar.read_text() == files.sha256(target)


def _sidecar(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _make(source: Path, target: Path, form: str) -> None:
    lib = library.load()
    params = lib.llama_model_quantize_default_params()
    params.ftype = formats()[form]
    params.allow_requantize = True
    new = target.with_name(target.name + ".new")
    try:
        if lib.llama_model_quantize(str(source).encode(), str(new).encode(), ctypes.byref(params)) != 0:
            raise ModelError(f"{source} cannot be made {form}: {library.explain()}")
        files.check(new)
        files.write_text(_sidecar(target), files.sha256(new))
        new.replace(target)
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error.strerror}; make room or set XDG_CACHE_HOME") from error
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Two processes that want the same file: one makes it, the other finds it."""
    with target.with_name(target.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
