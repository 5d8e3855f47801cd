"""Where a setting stands, for what is found wrong with it when models are opened, long after its file was read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from workbench.define.suite_file import as_list
from workbench.define.yamlfile import KeyPath, Located, parse_yaml
from workbench.errors import FileError, PromptError, SuiteError, UseError, named_first
from workbench.records import Suite, Variant

_FORMS = ("answer", "logprobs")


def at_setting(error: UseError, suite: Suite, variant: Variant) -> UseError:
    """The error of a variant's parameter or form of answer, with file and line of the setting that its message names
    first: in the suite, or in the prompt whose own it is. As it is where that stands in neither (`--set`)."""
    if (isinstance(error, FileError) and error.path is not None) or not suite.text:
        return error
    message, prompt = str(error), suite.prompts[variant.revision]
    located = parse_yaml(suite.text, suite.path or suite.name)
    for name in named_first(message, [*variant.params, *_FORMS])[:1]:
        for place in _places(located, variant.model, name):
            return SuiteError(message, located.path, located.line(place))
        if name in prompt.options and prompt.path is not None:
            return PromptError(message, prompt.path, _line_of(name, prompt.text))
    return error


@contextmanager
def in_file_of(suite: Suite) -> Iterator[None]:
    """Gives a SuiteError on this suite that has no line the line of what it names: see `in_file`."""
    if not suite.text:
        yield
        return
    with in_file(lambda: parse_yaml(suite.text, suite.path or suite.name)):
        yield


@contextmanager
def in_file(read: Callable[[], Located]) -> Iterator[None]:
    """Gives a SuiteError on a suite's file that has no line that of the scorer, and its setting, that it is about,
    else that of the first of the file's keys that it names. `read` reads the file, when there is an error."""
    try:
        yield
    except SuiteError as error:
        if error.line is not None:
            raise
        located = read()
        if error.path not in (None, located.path):
            raise
        raise SuiteError(error.message, located.path, _line_named(located, error.message)) from error


def _line_named(located: Located, message: str) -> int | None:
    about = re.match(r"scorer '(.+?)': ", message)
    for i, entry in enumerate(located.data.get("scorers") or [] if about else []):
        scorer = next((key for key in entry if key != "as"), "") if isinstance(entry, dict) else entry
        name, settings = (entry.get("as", scorer), entry[scorer]) if isinstance(entry, dict) else (entry, None)
        if about and name == about[1]:
            named = named_first(message[about.end() :], settings) if isinstance(settings, dict) else []
            return located.line(("scorers", i, scorer, *named[:1]) if named else ("scorers", i))
    keys = named_first(message, located.data)
    return located.line((keys[0],)) if keys else None


def _places(located: Located, model: str, name: str) -> Iterator[KeyPath]:
    """Where the suite may set a parameter, or a form of answer, for a model: what stands above all first."""
    data: dict[str, Any] = located.data
    for i, entry in enumerate(as_list(data.get("variants") or [])):
        used = entry.get("model")
        alias, own = (used.get("use"), used.get("params") or {}) if isinstance(used, dict) else (used, {})
        if alias in (model, None):
            yield from [("variants", i, "model", "params", name)] if name in own else []
            yield from [("variants", i, "params", name)] if name in (entry.get("params") or {}) else []
            yield from [("variants", i, name)] if name in _FORMS and name in entry else []
    for i, entry in enumerate(as_list(data.get("models") or [])):
        if isinstance(entry, dict) and entry.get("use") == model and name in (entry.get("params") or {}):
            yield ("models", i, "params", name)
    if name in (data.get("params") or {}):
        yield ("params", name)
    if name in _FORMS and name in data:
        yield (name,)


def _line_of(name: str, text: str) -> int | None:
    """The line of a key in a prompt's file; None where it has another name there."""
    key = re.compile(rf"\s*['\"]?{re.escape(name)}['\"]?\s*:")
    return next((number for number, line in enumerate(text.splitlines(), 1) if key.match(line)), None)
