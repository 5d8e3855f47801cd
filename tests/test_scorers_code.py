"""Code in answers: HumanEval's form, and a battery of hostile programs that get nowhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ScorerError, SuiteError, UseError
from workbench.records import Case, Output, ScorerSpec
from workbench.scorers import sandbox
from workbench.scorers.base import Answered
from workbench.scorers.build import build_scorer
from workbench.scorers.inside import pack, programs, unpack
from workbench.scorers.sandbox import Program, run_tests, sandbox_command

PACKAGE = Path(sandbox.__file__).parents[1]


def has_sandbox() -> bool:
    try:
        sandbox_command()
    except UseError:
        return False
    return True


needs_sandbox = pytest.mark.skipif(
    not has_sandbox(), reason="no sandbox here: bubblewrap, or user namespaces, are missing"
)


def judged(text: str, inputs=None, expected=None, **settings):
    scorer = build_scorer(ScorerSpec("code", "code", settings), Path(), "evals/x.yaml")
    return scorer(Answered(Output("rq1-x", text), Case("c1", inputs or {}, expected), expected))


FENCED = "Sure:\n```python\ndef double(x):\n    return 2 * x\n```\nIt doubles."
PROMPT = 'from typing import List\n\ndef double(x: int) -> int:\n    """ Twice x. """\n'
CHECK = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-1) == -2\n"
HUMAN_EVAL = {"tests": CHECK, "entry_point": "double", "prompt": PROMPT}


@needs_sandbox
@pytest.mark.parametrize(
    ("text", "settings", "value", "reason"),
    [
        (FENCED, {"tests": "assert double(4) == 8"}, 1, "the tests pass, 1 calls"),
        (FENCED, {"tests": "assert double(4) == 9"}, 0, "AssertionError at `assert double(4) == 9`; double(4) gave 8"),
        (FENCED, HUMAN_EVAL, 1, ""),
        ("    return 2 * x\n", HUMAN_EVAL, 1, ""),
        ("return 2 * x", HUMAN_EVAL, 1, ""),
        ("```python\n    return 2 * x", HUMAN_EVAL, 1, ""),
        ("```\nimport math\nfrom __future__ import annotations\n```", HUMAN_EVAL, 0, ""),
        ("from __future__ import annotations\ndef double(x: List[int]): return x + x", HUMAN_EVAL, 1, ""),
        ("```bash\npip install double\n```\n" + FENCED, HUMAN_EVAL, 1, ""),
        ("    return 3 * x\n", HUMAN_EVAL, 0, "double(2) gave 6"),
        ("    return x.twice\n", HUMAN_EVAL, 0, "AttributeError: 'int' object has no attribute 'twice'"),
        ("It can't be done.", HUMAN_EVAL, 0, "the code does not run: SyntaxError"),
        ("def triple(x): return 3 * x", {**HUMAN_EVAL, "prompt": ""}, 0, "defines no function 'double'"),
        ("", HUMAN_EVAL, 0, "the answer is empty"),
        ("raise SystemExit(0)", {"tests": "assert f() == 1"}, 0, "the code does not run: SystemExit"),
        ("def f(): raise KeyError('x')", {"tests": "try:\n    f()\n    assert False\nexcept KeyError: pass"}, 1, ""),
        ("def f(): return {1: ({2}, b'x', 1j, None, 10**30)}", {"tests": "assert f() == {1: ({2}, b'x', 1j, None, 10**30)}"}, 1, ""),
        ("def f(): return (i for i in [1])", {"tests": "assert list(f()) == [1]"}, 0, "type generator is no plain data"),
        ("def f():\n    while True: pass", {"tests": "f()", "timeout": 1}, 0, "took over 1 s"),
        ("def f(x): return input(x)", {"tests": "f('?')"}, 0, "EOFError"),
    ],
)  # fmt: skip
def test_code(text, settings, value, reason):
    judgement = judged(text, **settings)
    assert (judgement.value, judgement.kind) == (float(value), "pass"), judgement.reason
    assert reason in judgement.reason


@needs_sandbox
def test_settings_are_filled_from_the_case():
    row = {"test": CHECK, "name": "double", "start": PROMPT}
    words = {"tests": "{{ test }}", "entry_point": "{{name}}", "prompt": "{{ start }}"}
    assert judged("    return 2 * x", row, **words).value == 1.0
    assert judged(FENCED, row, expected="assert double(1) == 2").value == 1.0
    assert judged(FENCED, row, tests="assert {{ name }}(1) == 2").value == 1.0


@needs_sandbox
@pytest.mark.parametrize(
    ("settings", "expected", "message"),
    [
        ({"tests": "{{ nothing }}"}, None, "has no input 'nothing'"),
        ({"tests": "{{ number }}"}, None, "tests is no text, but int"),
        ({}, None, "tests is no text, but NoneType"),
        ({"tests": " "}, None, "has no tests"),
        ({"tests": "assert ("}, None, "the tests are no Python"),
        ({"tests": CHECK}, None, "give the scorer an entry_point"),
    ],
)
def test_a_wrong_case_is_an_error_of_its_own(settings, expected, message):
    with pytest.raises(ScorerError, match=re.escape(message)):
        judged(FENCED, {"number": 5}, expected, **settings)


@needs_sandbox
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tests": "x", "timeout": 0.0}, "give 0.2 to 600 seconds"),
        ({"tests": "x", "memory": 1}, "give 64 to 65536 MiB"),
        ({"tests": "{{ a | upper }}"}, "only '{{ name }}'"),
        ({"tests": "x", "time": 5}, "unknown setting 'time'"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(SuiteError, match=re.escape(message)):
        judged(FENCED, **settings)


def test_without_a_sandbox_it_is_refused_in_one_line(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    tmp_path.chmod(0o755)
    for found, told in ((None, "apt-get install bubblewrap"), (str(broken), "ermission")):
        sandbox_command.cache_clear()
        monkeypatch.setattr(
            shutil, "which", lambda name, found=found, **_: found if name == "bwrap" else "/usr/bin/python3"
        )
        with pytest.raises(SuiteError, match=told) as caught:
            judged(FENCED, tests="x")
        assert "\n" not in str(caught.value)
    monkeypatch.undo()
    sandbox_command.cache_clear()


@given(st.text(), st.text(max_size=20))
def test_programs_of_any_text(text, prompt):
    assert list(programs(text, prompt, ""))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
) | st.frozensets(st.integers()) | st.sets(st.text())  # fmt: skip


@given(PLAIN)
def test_plain_data_comes_through(value):
    back = unpack(json.loads(json.dumps(pack(value))))
    assert back == value
    assert type(back) is type(value)


@needs_sandbox
@pytest.mark.slow
def test_human_eval(shared):
    """The 82 canonical solutions pass, and fail when a `return` gives something else."""
    rows = [json.loads(line) for line in (shared / "humaneval.jsonl").read_text().splitlines()]
    right, wrong = [], []
    for row in rows:
        program = Program(row["canonical_solution"], row["test"], row["prompt"], row["entry_point"])
        right.append(run_tests(program))
        mutant = re.sub(r"\breturn (.+)", r"return (\1, 'mutant')", row["canonical_solution"])
        wrong.append(run_tests(Program(mutant, row["test"], row["prompt"], row["entry_point"])))
    assert [row["id"] for row, (ok, _) in zip(rows, right, strict=True) if not ok] == []
    assert [row["id"] for row, (ok, _) in zip(rows, wrong, strict=True) if ok] == []
    assert len(rows) == 82


@needs_sandbox
def test_published_example_of_human_eval(shared):
    """openai/human-eval's example: six samples, one of them `rm -rf`; its README prints pass@1 = 0.5."""
    example = json.loads((shared / "expected/pass_at_k.json").read_text())["human_eval_example"]
    problem = example["problem"]
    passes = [
        run_tests(Program(c, problem["test"], problem["prompt"], problem["entry_point"], seconds=2))[0]
        for c in example["completions"]
    ]
    assert passes == [False, False, False, True, True, True]


DENIED = "    except Exception: return 'denied'\n"
TRY = "def f():\n    import ctypes, os, signal, socket, subprocess, sys\n    try:\n        "
HOSTILE = {
    # name: (code, what a contained f() gives); each reports honestly how far it came
    "read /etc/shadow": (f"{TRY}return open('/etc/shadow').read()\n{DENIED}", "denied"),
    "read /etc/passwd": (f"{TRY}return open('/etc/passwd').read()\n{DENIED}", "denied"),
    "read the project": (f"{TRY}return os.listdir({str(PACKAGE)!r})\n{DENIED}", "denied"),
    "read a file that all may read": (f"{TRY}return open('MARKER').read()\n{DENIED}", "denied"),
    "find other folders": (f"{TRY}return [p for p in ('/etc', '/run', '/var', '/proc', '/sys', '/boot', '/mnt') if os.path.exists(p)]\n{DENIED}", []),
    "read the environment": (f"{TRY}return [k for k in os.environ if k not in ('PYTHONHASHSEED', 'PWD', 'LC_CTYPE')]\n{DENIED}", []),
    "read the parent's environment": (f"{TRY}return open('/proc/1/environ').read()\n{DENIED}", "denied"),
    "mount /proc": (f"{TRY}return ctypes.CDLL(None).mount(b'proc', b'/tmp', b'proc', 0, None)\n{DENIED}", -1),
    "a new namespace": (f"{TRY}return ctypes.CDLL(None).unshare(0x10000000)\n{DENIED}", -1),
    "become root": (f"{TRY}os.setuid(0); return os.getuid()\n{DENIED}", "denied"),
    "raise a limit": (f"{TRY}import resource; resource.setrlimit(resource.RLIMIT_NPROC, (99, 99)); return 'raised'\n{DENIED}", "denied"),
    "su": (f"{TRY}return subprocess.call(['/usr/bin/su', '-c', 'id'])\n{DENIED}", "denied"),
    "reach the internet": (f"{TRY}socket.create_connection(('192.0.2.1', 80), 0.3); return 'connected'\n{DENIED}", "denied"),
    "reach a local server": (f"{TRY}socket.create_connection(('127.0.0.1', PORT), 0.3); return 'connected'\n{DENIED}", "denied"),
    "reach a local server, IPv6": (f"{TRY}socket.create_connection(('::1', PORT), 0.3); return 'connected'\n{DENIED}", "denied"),
    "send a datagram": (f"{TRY}s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('192.0.2.1', 53)); return 'sent'\n{DENIED}", "denied"),
    "an abstract socket": (f"{TRY}s = socket.socket(socket.AF_UNIX); s.connect(b'\\0workbench-test-PORT'); return 'connected'\n{DENIED}", "denied"),
    "fork bomb": ("def f():\n    import os\n    n = 0\n    try:\n        while n < 200:\n            if os.fork() == 0:\n                import time; time.sleep(30)\n            n += 1\n    except OSError: pass\n    return n\n", 0),
    "thread bomb": ("def f():\n    import threading, time\n    n = 0\n    try:\n        while n < 200:\n            threading.Thread(target=time.sleep, args=(30,), daemon=True).start(); n += 1\n    except RuntimeError: pass\n    return n\n", 0),
    "memory bomb": ("def f():\n    b = []\n    try:\n        while len(b) < 4096: b.append(bytearray(1 << 20))\n    except MemoryError: pass\n    n = len(b); b.clear(); return n < 512\n", True),
    "shared memory": (f"{TRY}return ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600)\n{DENIED}", -1),
    "memory file": (f"{TRY}return os.memfd_create('x')\n{DENIED}", "denied"),
    "fill the disk": ("def f():\n    n = 0\n    try:\n        for i in range(100):\n            with open('/tmp/%d' % i, 'wb') as file:\n                n += file.write(b'x' * (1 << 20))\n    except OSError: pass\n    return n <= 16 << 20\n", True),
    "a huge file": (f"{TRY}file = open('/tmp/x', 'wb'); signal.signal(signal.SIGXFSZ, signal.SIG_IGN); file.truncate(1 << 30); return 'made'\n{DENIED}", "denied"),
    "write outside scratch": ("def f():\n    done = []\n    for p in ('/x', '/usr/x', '/dev/x', '/etc/x', '/lib/x', '/tmp/../x', '/var/tmp/x', '/dev/shm/x'):\n        try: open(p, 'w').close(); done.append(p)\n        except OSError: pass\n    return done\n", []),
    "a link out of scratch": (f"{TRY}os.symlink('/etc/shadow', '/tmp/l'); return open('/tmp/l').read()\n{DENIED}", "denied"),
    "a link to the project": (f"{TRY}os.symlink({str(PACKAGE / 'errors.py')!r}, '/tmp/m'); return open('/tmp/m', 'a').write('x')\n{DENIED}", "denied"),
    "a hard link": (f"{TRY}os.link('/usr/bin/env', '/tmp/env'); return 'linked'\n{DENIED}", "denied"),
    "change the system's files": (f"{TRY}os.chmod('/usr/bin/env', 0o777); return 'changed'\n{DENIED}", "denied"),
    "remount": (f"{TRY}return ctypes.CDLL(None).mount(b'none', b'/', None, 0x20, None)\n{DENIED}", -1),
    "pass a device": (f"{TRY}os.mknod('/tmp/sda', 0o60600, os.makedev(8, 0)); return open('/tmp/sda', 'rb').read(1)\n{DENIED}", "denied"),
    "signal the workbench": (f"{TRY}os.kill(VICTIM, 9); return 'sent'\n{DENIED}", "denied"),
    "trace a process": (f"{TRY}return ctypes.CDLL(None).ptrace(16, 1, None, None)\n{DENIED}", -1),
    "open many files": ("def f():\n    files = []\n    try:\n        while len(files) < 5000: files.append(open('/dev/null'))\n    except OSError: pass\n    return len(files) < 40\n", True),
    "find the tests": ("def f():\n    import gc\n    return [o for o in gc.get_objects() if isinstance(o, dict) and 'tests' in o and 'limits' in o]\n", []),
    "endless output, then an answer": ("def f():\n    import os\n    for i in range(2000): print('x' * 10000); os.write(2, b'y' * 10000)\n    return 'done'\n", "done"),
}  # fmt: skip
"""Attempts that come to an end by themselves."""

ENDLESS = {
    # name: code that must not pass `assert f() == 1`, whatever it says
    "sleep": "def f():\n    import time; time.sleep(1e6)\n",
    "spin": "def f():\n    while True: pass\n",
    "spin while loading": "while True: pass\n",
    "endless output": "def f():\n    while True: print('x' * 100000)\n",
    "endless value": "def f():\n    return 'x' * 50_000_000\n",
    "ignores signals": "def f():\n    import signal\n    for n in range(1, 65):\n        try: signal.signal(n, signal.SIG_IGN)\n        except (OSError, ValueError): pass\n    while True: pass\n",
    "leaves with success": "import os\nprint('PASSED'); os._exit(0)\n",
    "leaves when called": "def f():\n    import os\n    print('{\"ok\": true}', flush=True); os._exit(0)\n",
    "kills all it can": "def f():\n    import os, signal\n    os.kill(-1, signal.SIGKILL)\n",
    "kills its parent": "def f():\n    import os, signal\n    os.kill(os.getppid(), signal.SIGKILL); os.kill(1, signal.SIGKILL); return 2\n",
    "writes a verdict everywhere": "def f():\n    import os\n    for n in range(3, 32):\n        try: os.write(n, b'{\"ok\": true, \"reason\": \"\", \"fault\": false}\\n')\n        except OSError: pass\n    return 2\n",
    "writes replies everywhere": "def f():\n    import os\n    for n in range(3, 32):\n        try: os.write(n, b'[\"verdict\", true]\\n' * 9)\n        except OSError: pass\n    return 2\n",
    "equal to everything": "class E:\n    def __eq__(self, o): return True\ndef f(): return E()\n",
    "an int equal to everything": "class E(int):\n    def __eq__(self, o): return True\n    __hash__ = int.__hash__\ndef f(): return E(2)\n",
    "changes the tests' check": "import builtins, sys\nbuiltins.AssertionError = ValueError\nsys.exit = print\ndef check(c): pass\ndef f(): return 2\n",
    "a deep value": "def f():\n    x = []\n    for _ in range(500): x = [x]\n    return x\n",
    "crashes the interpreter": "def f():\n    import ctypes; ctypes.string_at(0)\n",
    "recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return f()\n",
    "a bomb to compile": "f = " + "(" * 5000 + ")" * 5000 + "\n",
    "a huge number": "f = lambda: 10 ** 10 ** 9\n",
}  # fmt: skip


def battery(port: int, victim: int, marker: str) -> list[str]:
    """Runs all attempts; the names of those that were not contained."""
    escaped = []
    for name, (code, contained) in HOSTILE.items():
        filled = code.replace("PORT", str(port)).replace("VICTIM", str(victim)).replace("MARKER", marker)
        ok, reason = run_tests(Program(filled, f"assert f() == {contained!r}", seconds=10, memory=512))
        escaped += [] if ok else [f"{name}: {reason}"]
    for name, code in ENDLESS.items():
        started = time.monotonic()
        ok, reason = run_tests(Program(code, "assert f() == 1", seconds=1.0, memory=256))
        if ok or time.monotonic() - started > 6:
            escaped.append(f"{name}: {ok} {reason}")
    return escaped


USERS = [
    "as it runs here",
    pytest.param("as an ordinary user", marks=pytest.mark.skipif(os.geteuid() != 0, reason="runs as one")),
]


@needs_sandbox
@pytest.mark.slow
@pytest.mark.parametrize("user", USERS)
def test_hostile_programs_are_contained(user, tmp_path_factory, capsys):
    place = tmp_path_factory.mktemp("hostile")
    marker = place / "marker.txt"
    marker.write_text("found")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as abstract,
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as victim,
    ):
        port = server.getsockname()[1]
        abstract.bind(f"\0workbench-test-{port}")
        abstract.listen()
        try:
            if user == "as it runs here":
                escaped = battery(port, victim.pid, str(marker))
            else:
                escaped = battery_as_nobody(place, port, victim.pid)
            assert victim.poll() is None
        finally:
            victim.kill()
    attempts = len(HOSTILE) + len(ENDLESS)
    with capsys.disabled():
        sys.stdout.write(f"\n  hostile programs, {user}: {attempts - len(escaped)} of {attempts} contained\n")
    assert escaped == []
    assert not leftovers()


def battery_as_nobody(place: Path, port: int, victim: int) -> list[str]:
    """The same in a process of an ordinary user, which needs a copy of the files that it can read."""
    for name in ("__init__.py", "errors.py", "scorers/__init__.py", "scorers/inside.py", "scorers/sandbox.py"):
        (place / "workbench" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE / name, place / "workbench" / name)
    (place / "attempts.json").write_text(json.dumps([HOSTILE, ENDLESS]))
    script = (
        "import json, time, sys\nfrom workbench.scorers.sandbox import Program, run_tests\n"
        "HOSTILE, ENDLESS = json.load(open('attempts.json'))\n"
        + Path(__file__).read_text().partition("\ndef battery(")[1]
        + Path(__file__).read_text().partition("\ndef battery(")[2].partition("\n\n\nUSERS")[0]
        + f"\nprint(json.dumps(battery({port}, {victim}, {str(place / 'marker.txt')!r})))\n"
    )
    opened = [place, *(folder for folder in place.parents if folder.stat().st_mode & 0o005 != 0o005)]
    modes = {folder: folder.stat().st_mode for folder in opened}
    for folder in opened:
        folder.chmod(0o755)
    try:
        done = subprocess.run(
            ["/usr/bin/python3", "-B", "-c", script],
            cwd=place, user=1234, group=1234, extra_groups=[], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_sandbox
def test_a_sandbox_dies_with_the_workbench():
    script = (
        "from workbench.scorers.sandbox import Program, run_tests\n"
        "run_tests(Program('def f():\\n    while True: pass', 'f()', seconds=60))"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as workbench:
        own = psutil.Process(workbench.pid)
        wait_until(lambda: len(own.children(recursive=True)) >= 6)  # twice: outside, init, Python
        family = own.children(recursive=True)
        workbench.kill()
    wait_until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family))


def wait_until(true) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "waited 20 s"
        time.sleep(0.02)


def leftovers() -> list[str]:
    """Sandboxes of ours that still run."""
    found = subprocess.run(["ps", "-A", "-o", "ppid=,comm="], capture_output=True, text=True).stdout.splitlines()
    return [line for line in found if line.split() == [str(os.getpid()), "bwrap"]]
