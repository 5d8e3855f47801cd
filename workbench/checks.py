"""What checking a model found, kept in the user's cache: speeds belong to this machine, not to a project."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_cache_dir

from workbench.engines.base import Speed
from workbench.models import Check
from workbench.records import Model, content_id


def keep_check(model: Model, check: Check) -> None:
    """Keeps a result in place of the last; where the cache can't be written, it is not kept."""
    file = _file(model)
    new = file.with_name(f"{file.name}.{os.getpid()}")
    kept = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "check": asdict(check)}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(kept), "utf-8")
        new.replace(file)
    except OSError:
        new.unlink(missing_ok=True)


def kept_check(model: Model) -> tuple[Check, str] | None:
    """The last result for a model of these settings, and when (ISO 8601, UTC); None where there is none that can
    be read."""
    try:
        kept = json.loads(_file(model).read_text("utf-8"))
        told = kept["check"]
        speeds = tuple(
            Speed(s["model"], s["prompt"], {int(n): rate for n, rate in s["decode"].items()}, s["memory"])
            for s in told.pop("speeds")
        )
        return Check(**told, speeds=speeds), str(kept["time"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _file(model: Model) -> Path:
    """By what is opened, not by its alias."""
    name = content_id("ck1", [model.engine, dict(model.settings)])
    return Path(user_cache_dir("prompt-workbench")) / "checks" / f"{name}.json"
