"""What a run was: versions, the git commit, the machine; kept in its header."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

from workbench.records import Json

PACKAGES = ("prompt-workbench", "llama-cpp-python", "openai", "langchain-core", "numpy", "scipy", "statsmodels")


def provenance(project: Path) -> Json:
    return {"versions": _versions(), "git": _git(project), "machine": _machine()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(project: Path) -> Json:
    """Commit and whether the tree was dirty; None where there is no git or no commit."""
    try:
        commit = _run_git(project, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_run_git(project, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _run_git(project: Path, *arguments: str) -> str:
    command = ["git", "-C", str(project), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    return done.stdout.strip()


def _machine() -> Json:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }
