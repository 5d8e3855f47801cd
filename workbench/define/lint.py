"""What is wrong, or looks wrong, in a prompt's file; nothing is rendered."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from workbench.define.library import Library
from workbench.define.prompt import line_offset, unused_inputs
from workbench.define.roles import ROLES
from workbench.errors import PromptError, UnknownName, UseError
from workbench.records import Prompt


@dataclass(frozen=True, slots=True)
class Finding:
    path: str
    line: int | None
    level: Literal["error", "warning"]
    message: str

    def __str__(self) -> str:
        return f"{self.path}:" + (f"{self.line}:" if self.line else "") + f" {self.level}: {self.message}"


DYNAMIC_ROLE = re.compile(r"^[ \t]*#?[ \t]*\{\{[^{}]*\}\}[ \t]*:[ \t]*$")
ALMOST_ROLE = re.compile(r"^[ \t]*#?[ \t]*(\w+)[ \t]*:[ \t]*$")


def lint_prompt(library: Library, name: str, text: str | None = None) -> list[Finding]:
    """The error that keeps a prompt from being read, else warnings; `text` stands for the file's. Raises
    UnknownName."""
    try:
        prompt = library.get(name) if text is None else library.draft(name, text)
    except PromptError as error:
        return [Finding(str(error.path or name), error.line, "error", error.message)]
    except UnknownName:
        raise
    except UseError as error:
        return [Finding(name, None, "error", str(error))]
    path = prompt.path or name
    findings = [
        Finding(path, _declaration(prompt, unused), "warning", f"input '{unused}' is declared but not used")
        for unused in unused_inputs(prompt)
    ]
    for number, line in enumerate(prompt.template.split("\n"), line_offset(prompt) + 1):
        message = "" if prompt.raw else _suspicion(line)
        if message:
            findings.append(Finding(path, number, "warning", message))
    return sorted(findings, key=lambda f: f.line or 0)


def _suspicion(line: str) -> str:
    if DYNAMIC_ROLE.match(line):
        return "a computed role starts no message: write the role itself, or give the turns as an input of kind thread"
    word = ALMOST_ROLE.match(line)
    if word and word[1].lower() not in ROLES:
        near = difflib.get_close_matches(word[1].lower(), ROLES, n=1, cutoff=0.75)
        if near:
            return f"'{word[1]}:' starts no message; did you mean '{near[0]}:'?"
    return ""


def _declaration(prompt: Prompt, name: str) -> int | None:
    """The first line of the front matter that has the input's name."""
    front = prompt.text.split("\n")[: line_offset(prompt)]
    return next((n for n, line in enumerate(front, 1) if re.search(rf"\b{re.escape(name)}\b", line)), None)
