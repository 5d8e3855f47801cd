"""Python of a promptfoo config: https://www.promptfoo.dev/docs/configuration/expected-outputs/python/.

None of it runs outside the sandbox. Assertions become the scorer `script`, which runs them there when a suite is run;
functions that make tests are run there once, where that is asked for, and what they gave is written as data.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from workbench.errors import ScorerError, UseError
from workbench.interop import promptfoo_files as files
from workbench.interop.promptfoo_scored import Scored
from workbench.interop.report import Left
from workbench.records import EMPTY, Json
from workbench.scorers.sandbox import Script, run_script

NOTE = "run in the sandbox, without packages and files; its score counts as passed or failed"
SECONDS, BYTES = 30.0, 16 << 20
"""What making the tests may take and give."""
_ASKED = re.compile(r"\bcontext(?:\.get\(|\[)\s*['\"](\w+)")


def script_of(given: Mapping[str, Json], base: Path, place: str) -> Scored:
    """The scorer of a `python` assertion; raises Left."""
    value, config, threshold = given.get("value"), given.get("config"), given.get("threshold")
    if not isinstance(value, str) or not value.strip():
        raise Left("assertion python without code")
    if not isinstance(config, (dict, type(None))):
        raise Left("assertion python: its config is no mapping")
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, (int, float))):
        raise Left("assertion python: a threshold that is no number")
    settings: dict[str, Json] = {"config": config} if config else {}
    settings |= {} if threshold is None else {"at_least": threshold}
    copied = EMPTY
    if value.startswith("file://"):
        path, function = files.python_of(base, value, "get_assert")
        text = files.read(path)
        copy = f"{place}/{path.resolve().relative_to(base.resolve()).as_posix()}"
        settings["file"] = f"{copy}:{function}"
        copied = {copy: text}
    else:
        text = settings["code"] = value
    _check(text, not copied)
    return Scored({"script": settings}, EMPTY, NOTE, copied)


def _check(text: str, inline: bool) -> None:
    """Raises Left for a script that asks for what it can't have."""
    if missing := [name for name in _ASKED.findall(text) if name not in ("vars", "config")]:
        raise Left(f"assertion python: it uses context['{missing[0]}']")
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that mean themselves
            ast.parse("def main():\n" + re.sub(r"^", "  ", text, flags=re.MULTILINE) if inline else text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Left("assertion python: it is no Python") from error


def generate(path: Path, function: str, settings: Json) -> list[Json]:
    """The tests that a function of a Python file makes, run in the sandbox; raises Left."""
    arguments = () if settings is None else (settings,)
    try:
        state, given = run_script(Script(files.read(path), function, arguments, SECONDS, limit=BYTES))
    except (ScorerError, UseError) as error:
        raise Left(f"{path.name}: {error}") from error
    if state != "value" or not isinstance(given, (list, tuple)):
        told = str(given) if state != "value" else "it gives no list of tests"
        raise Left(f"{path.name}:{function}: {told}")
    return list(given)
