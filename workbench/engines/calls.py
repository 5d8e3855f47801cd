"""Models that are Python of the user's own, called in this process: what `python` and `langchain` share.

    path: evals/mine.py:answer             # a file, and a name in it
    options: {object: package.mine:answer} # or a name in a module that can be imported
    options: {version: 2}                  # enters the identity
    limits: {concurrency: 4}               # calls at a time, each in a thread

The code runs with all the rights of the workbench, so only workbench.yaml can name it, no suite and no
prompt. A file is read anew each time and nothing is written beside it. Its text is part of the model's
identity: edited, it is asked anew. Text that it imports from elsewhere is not; after a change there, raise
`version`. A call that runs can't be interrupted: cancelling drops what has not begun.
"""

from __future__ import annotations

import hashlib
import importlib
import linecache
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from workbench.engines.base import Capabilities, Requests, estimated_tokens, failed
from workbench.engines.price import cost
from workbench.engines.threads import answered_in_threads
from workbench.errors import ModelError, suggest
from workbench.records import Json, Model, Output, Request, content_id

_AT_ONCE = 4
_LONGEST = 400
"""Characters of an error's own words that are worth keeping."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gave back."""

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    """US dollars; None: reckoned from the model's price, where that and the tokens are known."""


class BadAnswerError(Exception):
    """What a call gave back is no answer."""


class CallEngine(ABC):
    """Asks by `answer`, several requests at a time. Raises ModelError for wrong settings, or for code that
    can't be loaded, with file and line."""

    in_process = False
    capabilities = Capabilities()
    options: ClassVar[tuple[str, ...]] = ()
    """Settings of its own, beside those that all have."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._source = _find(model, self.options)
        self._at_once = int(model.limits.get("concurrency", _AT_ONCE))

    @classmethod
    def preview(cls, model: Model) -> dict[str, object]:
        """What `describe` tells, without running the code; raises ModelError where there is none."""
        return {"file": _find(model, cls.options).target}

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """Answers one request; whatever it raises becomes a failure of that request."""

    @property
    def identity(self) -> str:
        """Without the folder: the same file in another clone is the same model."""
        settings = {key: value for key, value in self._model.settings.items() if key != "path"}
        digest = hashlib.sha256(self._source.content).hexdigest()
        return content_id(self._model.engine, [Path(self._source.target).name, digest, settings])

    def check_params(self, params: Mapping[str, Json]) -> None:  # noqa: B027 - may stay as it is
        """Takes any: only the code knows."""

    def count_tokens(self, request: Request) -> int:
        return estimated_tokens(request)

    def describe(self) -> dict[str, object]:
        return {"file": self._source.target}

    def work(self) -> dict[str, float]:
        return {}

    def close(self) -> None:  # noqa: B027 - nothing to give back
        """Holds nothing."""

    def generate(self, requests: Requests) -> Iterator[Output]:
        """See `engines.base.Engine`; what runs when the iterator is closed is waited for."""
        return answered_in_threads(requests, self._ask, self._at_once, self._model.alias)

    def _ask(self, request: Request) -> Output:
        started = time.perf_counter()
        try:
            answer = self.answer(request)
            seconds = time.perf_counter() - started
            answer.text.encode()  # half of a surrogate pair could not be kept
        except (BadAnswerError, UnicodeEncodeError) as error:
            return failed(request, "bad_answer", f"{self._source.target}: {_one_line(str(error))}")
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            return failed(request, "error", self._source.told(error))
        asked, given = answer.prompt_tokens, answer.output_tokens
        return Output(
            request.id,
            answer.text,
            answer.finish_reason,
            prompt_tokens=asked,
            output_tokens=given,
            seconds=seconds,
            cost=cost(self._model.price, asked, given) if answer.cost is None else answer.cost,
        )


@dataclass(frozen=True, slots=True)
class Source:
    """Where the code stands."""

    target: str
    """As the user named it: `/project/mine.py:answer` or `package.mine:answer`."""
    name: str
    """What is asked for in it."""
    file: str
    """Its path; empty for a module that is no Python file."""
    content: bytes
    module: str | None = None
    """Its name, where it is imported and not read from a path."""

    def load(self) -> Any:
        """The thing of that name. Runs the code; raises ModelError with file and line."""
        try:
            module = importlib.import_module(self.module) if self.module else self._executed()
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise ModelError(self.told(error)) from error
        if not hasattr(module, self.name):
            names = [name for name in vars(module) if not name.startswith("_")]
            raise ModelError(f"{self.file or self.module}: there is no '{self.name}' in it{suggest(self.name, names)}")
        return getattr(module, self.name)

    def told(self, error: BaseException) -> str:
        """`mine.py:3: KeyError: 'x'`, on one line: the last line of this file that the error passed."""
        own = [f.lineno for f in traceback.extract_tb(error.__traceback__) if self.file and f.filename == self.file]
        place = f"{self.file}:{own[-1]}" if own else self.target
        if isinstance(error, SyntaxError) and error.filename and error.lineno:
            return _one_line(f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}")
        return _one_line(f"{place}: {type(error).__name__}: {error}")

    def _executed(self) -> ModuleType:
        """Not by importlib, which keeps byte code, and takes the old for a file saved twice in a second."""
        module = ModuleType(f"workbench_model_{hashlib.sha256(self.content).hexdigest()[:16]}")
        module.__file__ = self.file
        linecache.checkcache(self.file)
        sys.modules[module.__name__] = module  # dataclasses look their module up
        exec(compile(self.content, self.file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - see above
        return module


def _find(model: Model, options: tuple[str, ...]) -> Source:
    """The code that a model names; nothing of a file is run, of a module the packages around it."""
    settings, who = model.settings, f"model '{model.alias}'"
    if "rest" in settings:
        raise ModelError(f"{who}: only workbench.yaml can name code to run; give it an alias there, with a `path`")
    for what, given, known in (
        ("setting", settings, ("path", "object", "version", *options)),
        ("limit", model.limits, ("concurrency",)),
    ):
        if unknown := sorted(given.keys() - set(known)):
            raise ModelError(f"{who}: unknown {what} '{unknown[0]}'{suggest(unknown[0], known)}")
    if len(settings.keys() & {"path", "object"}) != 1:
        raise ModelError(f"{who} needs a `path` such as mine.py:answer, or options: {{object: package.mine:answer}}")
    key = "path" if "path" in settings else "object"
    target = str(settings[key])
    place, _, name = target.rpartition(":")
    fits = place.endswith(".py") if key == "path" else all(map(str.isidentifier, place.split(".")))
    if not fits or not name.isidentifier():
        example = "mine.py:answer" if key == "path" else "package.mine:answer"
        raise ModelError(f"{who}: {key} '{target}' has to look like {example}")
    return _file(target, place, name, who) if key == "path" else _module(target, place, name, who)


def _file(target: str, place: str, name: str, who: str) -> Source:
    try:
        return Source(target, name, place, Path(place).read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{who}: {place} can't be read: {reason}; correct its `path`") from error


def _module(target: str, place: str, name: str, who: str) -> Source:
    try:
        spec = find_spec(place)
    except (Exception, SystemExit) as error:  # a package around it may raise anything
        raise ModelError(f"{who}: {_one_line(f'{place}: {type(error).__name__}: {error}')}") from error
    if spec is None:
        raise ModelError(f"{who}: there is no module '{place}'; install it, or name its folder in PYTHONPATH")
    file = spec.origin if spec.origin and spec.origin.endswith(".py") else ""
    return Source(target, name, file, Path(file).read_bytes() if file else b"", place)


def _one_line(text: str) -> str:
    line = " ".join(text.split()).encode(errors="replace").decode()
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"
