"""What runs inside the sandboxes of `sandbox.py`: this file's text is given to their interpreters.

It imports the standard library only, runs on Python 3.8 and later, and knows nothing of the workbench. One
process has the answer's code, the other the tests. They speak in lines of JSON: the tests ask for a call, the
answer gives its value. Only plain data goes through, so whatever the answer does, all that the tests get from
it is values; it sees neither the tests nor where the verdict goes.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import re
import reprlib
import resource
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, BinaryIO

LINE_LIMIT = 4_000_000
"""The most bytes of one message."""
FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
"""A Markdown code block: its language and its text, which may be cut off."""
Data = Any


class Channel:
    """Messages over two pipes; standard input and output lead nowhere from then on."""

    def __init__(self) -> None:
        self._in: BinaryIO = os.fdopen(os.dup(0), "rb")
        self._out: BinaryIO = os.fdopen(os.dup(1), "wb")
        nowhere = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)

    def send(self, message: Data) -> None:
        self._out.write(json.dumps(message).encode() + b"\n")
        self._out.flush()

    def receive(self) -> Data:
        """The next message; raises EOFError where the other side is gone, ValueError for what is none."""
        line = self._in.readline(LINE_LIMIT)
        if not line:
            raise EOFError("the other side is gone")
        if not line.endswith(b"\n"):
            raise ValueError(f"over {LINE_LIMIT:,} bytes in one value, or cut off")
        return json.loads(line)


def pack(value: Data) -> Data:
    """Plain data as JSON that keeps tuples, sets, bytes and keys apart; raises TypeError for anything else."""
    if value is None or isinstance(value, (bool, str)):
        return value if value is None or isinstance(value, bool) else str(value)
    if isinstance(value, int):
        return int(value) if abs(value) < 2**53 else ["int", hex(value)]
    if isinstance(value, float):
        return float(value)
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", value.hex()]
    if isinstance(value, dict):
        return ["dict", [[pack(key), pack(item)] for key, item in value.items()]]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [pack(item) for item in value]]
    raise TypeError(f"a value of type {type(value).__name__} is no plain data")


def unpack(data: Data) -> Data:
    """What was packed, in built-in types only; raises ValueError or TypeError for what `pack` does not make."""
    if not isinstance(data, list):
        return data
    kind, inner = data
    if kind == "dict":
        return {unpack(key): unpack(item) for key, item in inner}
    makers: dict[str, Callable[[Data], Data]] = {
        "int": lambda text: int(text, 16),
        "complex": lambda pair: complex(*pair),
        "bytes": bytes.fromhex,
    }
    if kind in makers:
        return makers[kind](inner)
    items = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind]
    return items(map(unpack, inner))


def programs(text: str, prompt: str, entry: str) -> Iterator[str]:
    """What the answer may mean, the likeliest first: a code block (else the whole text) that defines the function,
    behind the prompt or alone; or one that continues the prompt, indented or not."""
    found = FENCE.findall(text)
    blocks = [block for language, block in found if language.lower() in ("", "py", "python", "python3")] or [text]
    for block in blocks:
        if not entry or entry in defined(block):
            yield f"{prompt}\n\n{block}"
            yield block
    for block in blocks:
        yield prompt + block
        yield prompt + textwrap.indent(block, "    ")


def defined(source: str) -> list[str]:
    """Names that the source defines at its top level; none where it does not compile."""
    try:
        compiled(source, "<answer>")  # finds what the parser lets pass, such as a `return` outside
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    names = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    assigned = [t for node in body if isinstance(node, ast.Assign) for t in node.targets]
    return names + [target.id for target in assigned if isinstance(target, ast.Name)]


def compiled(source: str, name: str) -> CodeType:
    """The code, without this file's own `__future__`."""
    return compile(source, name, "exec", dont_inherit=True)


def answer_side(job: dict[str, Data]) -> None:
    """Runs the answer's code, then calls its functions as it is asked to."""
    channel = Channel()
    namespace: dict[str, Data] = {"__name__": "answer"}
    found = list(programs(job["answer"], job["prompt"], job["entry_point"]))
    fitting = (p for p in found if (job["entry_point"] in defined(p) if job["entry_point"] else defined(p)))
    try:
        exec(compiled(next(fitting, found[0]), "<answer>"), namespace)  # noqa: S102  this is the sandbox
    except BaseException as error:  # noqa: BLE001
        channel.send(["failed", told(error)])
        return
    channel.send(["ready", [name for name, value in namespace.items() if callable(value) and name.isidentifier()]])
    while True:
        try:
            name, arguments, named = channel.receive()
        except EOFError:
            return
        try:
            value = namespace[name](*unpack(arguments), **unpack(named))
            reply = ["value", pack(value)]
        except BaseException as error:  # noqa: BLE001
            reply = ["error", type(error).__name__, str(error)[:300]]
        channel.send(reply)


def tests_side(job: dict[str, Data], verdict: int) -> None:
    """Runs the tests against the answer's functions and writes the verdict."""
    channel = Channel()
    ok, reason, fault = judge(job, channel)
    os.write(verdict, json.dumps({"ok": ok, "reason": reason[:500], "fault": fault}).encode())


def judge(job: dict[str, Data], channel: Channel) -> tuple[bool, str, bool]:
    """Whether the tests pass, the reason, and whether it is the tests that are wrong."""
    entry = job["entry_point"]
    try:
        program = compiled(job["tests"], "<tests>")
    except (SyntaxError, ValueError) as error:
        return False, f"the tests are no Python: {told(error)}", True
    try:
        state, detail = channel.receive()
    except (EOFError, ValueError):
        return False, "the answer's process ended before it could be called", False
    if state != "ready":
        return False, f"the code does not run: {detail}"[:500], False
    if entry and entry not in detail:
        return False, f"defines no function '{entry}'", False
    namespace = helpers(job["prompt"])
    calls: list[str] = []
    for name in map(str, detail):
        if name == entry or not (name in namespace or hasattr(builtins, name) or name == "check"):
            namespace[name] = proxy(name, channel, calls)
    try:
        exec(program, namespace)  # noqa: S102  this is the sandbox
        if entry and callable(namespace.get("check")):
            namespace["check"](namespace[entry])
        elif callable(namespace.get("check")):
            return False, "the tests define check(candidate); give the scorer an entry_point", True
    except BaseException as error:  # noqa: BLE001
        return False, "; ".join([failing(error, job["tests"]), *calls[-1:]]), False
    return True, f"the tests pass, {len(calls)} calls", False


def helpers(prompt: str) -> dict[str, Data]:
    """What the prompt defines beside the function to write: tests use it."""
    namespace: dict[str, Data] = {"__name__": "tests"}
    try:
        exec(compiled(prompt, "<prompt>"), namespace)  # noqa: S102  this is the sandbox
    except Exception:  # noqa: BLE001  a prompt that stops in mid-function defines nothing
        return {"__name__": "tests"}
    return namespace


def proxy(name: str, channel: Channel, calls: list[str]) -> Callable[..., Data]:
    """A function that has the other process call the answer's function of that name."""

    def call(*arguments: Data, **named: Data) -> Data:
        calls.append(f"{name}({', '.join(map(reprlib.repr, arguments))})")
        channel.send([name, pack(arguments), pack(named)])
        try:
            state, *detail = channel.receive()
        except EOFError:
            raise RuntimeError("the answer's process ended") from None
        if state != "value":
            kind = getattr(builtins, str(detail[0]), None)
            if isinstance(kind, type) and issubclass(kind, Exception):
                raise kind(detail[1])
            raise RuntimeError(f"{detail[0]}: {detail[1]}")
        value = unpack(detail[0])
        calls[-1] += f" gave {reprlib.repr(value)}"
        return value

    call.__name__ = name
    return call


def failing(error: BaseException, tests: str) -> str:
    """The error, with the line of the tests where it happened."""
    lines = [f.lineno or 0 for f in traceback.extract_tb(error.__traceback__) if f.filename == "<tests>"]
    source = tests.splitlines()[lines[-1] - 1].strip() if lines else ""
    return told(error) + (f" at `{source[:80]}`" if source else "")


def told(error: BaseException) -> str:
    """`ValueError: message`, on one line."""
    message = " ".join(str(error).split())[:120]
    return type(error).__name__ + (f": {message}" if message else "")


class Context(dict):  # type: ignore[type-arg]
    """What a script is told beside the answer; asking for more is the script's fault, not the answer's."""

    def __missing__(self, key: Data) -> Data:
        raise LackingError(f"context has no '{key}', only {', '.join(self)}")

    def get(self, key: Data, default: Data = None) -> Data:
        return self[key]


class LackingError(Exception):
    """A script wants what it can't have here."""


def script_side(job: dict[str, Data], verdict: int) -> None:
    """Calls a function of a script with plain data and writes what it gave: `value`, `raised`, or a `fault` of the
    script itself."""
    Channel()
    namespace: dict[str, Data] = {"__name__": "script"}
    try:
        try:
            program = compiled(job["source"], "<script>")
        except SyntaxError as error:
            raise LackingError(told(error)) from None
        exec(program, namespace)  # noqa: S102  this is the sandbox
        function = namespace.get(job["function"])
        if not callable(function):
            raise LackingError(f"there is no function '{job['function']}' in the script")
        arguments = unpack(job["arguments"])
        if job["context"]:
            arguments[-1] = Context(arguments[-1])
        said = ["value", pack(function(*arguments))]
    except LackingError as error:
        said = ["fault", str(error)[:300]]
    except ImportError as error:
        said = ["fault", told(error)]
    except BaseException as error:  # noqa: BLE001
        said = ["raised", told(error)]
    os.write(verdict, json.dumps(said).encode())


def main(role: str, job_number: str, verdict_number: str) -> None:
    with os.fdopen(int(job_number), "rb") as file:
        job = json.loads(file.read())
    for name, bound in job["limits"].items():
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (bound, bound))
    if role == "script":
        script_side(job, int(verdict_number))
    elif role == "tests":
        tests_side(job, int(verdict_number))
    else:
        answer_side(job)


if __name__ == "__main__":
    main(*sys.argv[1:])
