"""Runs an answer's code against tests, both locked away: from the machine, and from each other.

Two bubblewrap sandboxes, one for the answer and one for the tests (`inside.py` says what runs in them), each
with namespaces of its own: no network, no process but its own, no user to become. Its files are the system's
programs and libraries, read-only, and a scratch folder in memory; no environment, no /proc, two devices. Root
first becomes nobody, since process limits bind no root. Each is one process with limits on CPU time, memory,
files and processes; the wall clock stops both. A filter refuses system calls that keep memory outside these
limits, or reach into other processes. What they print is never read; only the tests' side can write the
verdict, so nothing that the answer prints, and no exit status, passes for success.

It does not protect from flaws of the kernel, and an answer can still use the two processors while it runs.
"""

from __future__ import annotations

import json
import math
import os
import platform
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from workbench.errors import ScorerError, UseError
from workbench.scorers import inside

NOBODY = 65534
MEBIBYTE = 1 << 20
SCRATCH = 16 * MEBIBYTE
"""Bytes that an answer may keep in files."""
VERDICT_LIMIT = 10_000
PROBE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Program:
    """What is to be run."""

    answer: str
    """The answer's text: code, or text with code blocks."""
    tests: str
    prompt: str = ""
    """Code that the answer continues, or builds on."""
    entry_point: str = ""
    """The function that is tested; empty: the tests call functions by their names."""
    seconds: float = 5.0
    """Wall clock for all, starting the interpreters included."""
    memory: int = 512
    """MiB of address space for each side."""

    def jobs(self) -> dict[str, bytes]:
        """What each side is told; the answer's side nothing of the tests."""
        limits = _limits(self.seconds, self.memory)
        shared = {"prompt": self.prompt, "entry_point": self.entry_point, "limits": limits}
        own = {"answer": {"answer": self.answer}, "tests": {"tests": self.tests}}
        return {role: json.dumps({**shared, **job}).encode() for role, job in own.items()}


def _limits(seconds: float, memory: int) -> dict[str, int]:
    """By the names of setrlimit."""
    return {
        "AS": memory * MEBIBYTE,
        "CPU": math.ceil(seconds) + 1,
        "FSIZE": SCRATCH,
        "NOFILE": 32,
        "NPROC": 2,  # the runner and bubblewrap's own
        "CORE": 0,
    }


@dataclass(frozen=True, slots=True)
class Script:
    """A function of some code, and what to call it with."""

    source: str
    function: str
    arguments: tuple[Any, ...]
    """Plain data, as `inside.pack` takes it."""
    seconds: float = 5.0
    memory: int = 512
    limit: int = 10_000
    """The most bytes of what it gives back."""
    context: bool = False
    """The last argument is a mapping that says so when more is asked of it than it holds."""


def run_script(script: Script) -> tuple[str, Any]:
    """What the function gave, `("value", …)`, or raised, `("raised", message)`; raises ScorerError where the code
    itself is wrong, UseError where there is no sandbox. Every part of it runs in the sandbox."""
    job = {
        "source": script.source,
        "function": script.function,
        "arguments": inside.pack(list(script.arguments)),
        "context": script.context,
        "limits": _limits(script.seconds, script.memory),
    }
    command = sandbox_command()
    with ExitStack() as stack:
        nowhere, verdict = (stack.enter_context(_pipe()) for _ in range(2))
        told, rules = (stack.enter_context(_file(content)) for content in (json.dumps(job).encode(), _filter()))
        arguments = ["script", str(told.fileno()), str(verdict[1].fileno())]
        passed_on = [told.fileno(), rules.fileno(), verdict[1].fileno()]
        stack.enter_context(_running(_with_filter(command, rules) + arguments, nowhere[0], nowhere[1], passed_on))
        for end in (*nowhere, verdict[1]):
            end.close()
        text = _read(verdict[0], script.seconds, script.limit)
    if text is None:
        return "raised", f"took over {script.seconds:g} s"
    if len(text) > script.limit:
        return "raised", f"gave back over {script.limit:,} bytes"
    if not text:
        return "raised", "ended without a value: out of memory or CPU time"
    state, value = json.loads(text)
    if state == "fault":
        raise ScorerError(value)
    return state, inside.unpack(value)


def run_tests(program: Program) -> tuple[bool, str]:
    """Whether the answer passes the tests, and why; raises ScorerError where the tests themselves are wrong, UseError
    where there is no sandbox."""
    command = sandbox_command()
    with ExitStack() as stack:
        to_answer, to_tests, verdict = (stack.enter_context(_pipe()) for _ in range(3))
        jobs = {role: stack.enter_context(_file(job)) for role, job in program.jobs().items()}
        filters = [stack.enter_context(_file(_filter())) for _ in jobs]
        ends = (("answer", to_answer[0], to_tests[1]), ("tests", to_tests[0], to_answer[1]))
        for (role, stdin, stdout), rules in zip(ends, filters, strict=True):
            told = verdict[1:] if role == "tests" else []
            arguments = [role, str(jobs[role].fileno()), str(told[0].fileno() if told else -1)]
            passed_on = [jobs[role], rules, *told]
            stack.enter_context(
                _running(_with_filter(command, rules) + arguments, stdin, stdout, [f.fileno() for f in passed_on])
            )
        for end in (*to_answer, *to_tests, verdict[1]):
            end.close()
        return _read_verdict(verdict[0], program.seconds)


def _read(pipe: IO[bytes], seconds: float, limit: int) -> bytes | None:
    """All that comes, or the first bytes beyond the limit; None where it takes longer."""
    end, text = time.monotonic() + seconds, b""
    while True:
        left = end - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return None
        piece = os.read(pipe.fileno(), limit)
        text += piece
        if not piece or len(text) > limit:
            return text


def _read_verdict(pipe: IO[bytes], seconds: float) -> tuple[bool, str]:
    text = _read(pipe, seconds, VERDICT_LIMIT)
    if text is None:
        return False, f"took over {seconds:g} s"
    if not text:
        return False, "the tests ended without a verdict: out of memory or CPU time"
    said = json.loads(text)
    if said["fault"]:
        raise ScorerError(said["reason"])
    return said["ok"], said["reason"]


@contextmanager
def _running(command: list[str], stdin: Any, stdout: Any, descriptors: list[int]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone with everything in its sandbox when the block ends."""
    process = subprocess.Popen(  # noqa: S603
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        pass_fds=descriptors,
        start_new_session=True,
        env={},
        cwd="/",
        **_unprivileged(),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # the sandbox's init dies with it, and with that all others
        process.wait()


@contextmanager
def _pipe() -> Iterator[list[IO[bytes]]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as first, os.fdopen(writing, "wb", 0) as second:
        yield [first, second]


@contextmanager
def _file(content: bytes) -> Iterator[IO[bytes]]:
    """An open file without a name, at its start."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file


def _unprivileged() -> Mapping[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


@lru_cache(maxsize=1)
def sandbox_command() -> tuple[str, ...]:
    """The command that opens a sandbox with `inside.py` in it; raises UseError where none can be had."""
    program = shutil.which("bwrap")
    if program is None:
        raise _refused("bubblewrap is not installed (Debian: apt-get install bubblewrap)")
    problem = "no Python that an unprivileged user can read"
    for python, prefix in _interpreters():
        command = (program, *_walls(prefix), python, "-s", "-S", "-B", "-c", Path(inside.__file__).read_text())
        problem = _problem(command)
        if not problem:
            return command
    raise _refused(problem)


def _refused(problem: str) -> UseError:
    return UseError(f"running code needs a sandbox, bubblewrap 0.8 or later with user namespaces: {problem}")


def _interpreters() -> Iterator[tuple[str, str]]:
    """Our own interpreter, without its virtual environment, and the system's; each with its folder."""
    own = Path(sys.executable).resolve()
    yield str(own), str(Path(sys.base_prefix).resolve())
    system = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if system:
        yield system, "/usr"


def _walls(prefix: str) -> list[str]:
    """bubblewrap's options: what there is to see, and nothing else."""
    seen = ["--ro-bind", "/usr", "/usr"]
    for path in (Path(name) for name in ("/bin", "/lib", "/lib32", "/lib64")):
        if path.is_symlink():
            seen += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            seen += ["--ro-bind", str(path), str(path)]
    if not Path(prefix).is_relative_to("/usr"):
        seen += ["--ro-bind", prefix, prefix]
    for device in ("/dev/null", "/dev/urandom"):
        seen += ["--dev-bind", device, device]
    scratch = ["--size", str(SCRATCH), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"]  # noqa: S108
    apart = ["--unshare-all", "--unshare-user", "--disable-userns", "--hostname", "sandbox", "--cap-drop", "ALL"]
    bare = ["--clearenv", "--setenv", "PYTHONHASHSEED", "0"]  # sets in one order each time
    return [*apart, *seen, *scratch, *bare, "--die-with-parent", "--new-session"]


def _with_filter(command: tuple[str, ...], rules: IO[bytes]) -> list[str]:
    return [command[0], "--seccomp", str(rules.fileno()), *command[1:]]


def _problem(command: tuple[str, ...]) -> str:
    """Why the sandbox does not open, empty where it does."""
    trial = (*command[:-1], "print(open('/dev/null').read() + 'open')")
    with _file(_filter()) as rules:
        try:
            done = subprocess.run(  # noqa: S603
                _with_filter(trial, rules),
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=[rules.fileno()],
                timeout=PROBE_SECONDS,
                env={},
                cwd="/",
                **_unprivileged(),
            )
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
    if done.returncode == 0 and done.stdout.strip() == b"open":
        return ""
    return " ".join(done.stderr.decode(errors="replace").split())[:200] or f"it ended with {done.returncode}"


REFUSED_CALLS = {
    "x86_64": (0xC000003E, "29 30 64 68 101 165 248 249 250 272 298 308 310 311 319 321 323 425 447"),
    "aarch64": (0xC00000B7, "194 196 190 186 117 40 217 218 219 97 241 268 270 271 279 280 282 425 447"),
}
"""By machine: AUDIT_ARCH of linux/audit.h, and the numbers (asm/unistd.h) of shmget, shmat, semget, msgget, ptrace,
mount, add_key, request_key, keyctl, unshare, perf_event_open, setns, process_vm_readv and _writev, memfd_create,
bpf, userfaultfd, io_uring_setup and memfd_secret."""


def _filter() -> bytes:
    """A seccomp program in classic BPF (linux/filter.h): the calls above fail with EPERM, calls of another
    machine's numbering kill. On machines that the table lacks all calls are allowed."""
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    allow, kill, refuse = 0x7FFF0000, 0x80000000, 0x00050001
    if platform.machine() not in REFUSED_CALLS:
        return struct.pack("=HBBI", give, 0, 0, allow)
    machine, numbers = REFUSED_CALLS[platform.machine()]
    calls = [int(number) for number in numbers.split()]
    count = len(calls)
    rules = [(load, 0, 0, 4), (equal, 1, 0, machine), (give, 0, 0, kill), (load, 0, 0, 0)]
    rules.append((at_least, count + 1, 0, 0x40000000))  # x32 numbers of x86-64
    rules += [(equal, count - i, 0, call) for i, call in enumerate(calls)]
    rules += [(give, 0, 0, allow), (give, 0, 0, refuse)]
    return b"".join(struct.pack("=HBBI", *rule) for rule in rules)
