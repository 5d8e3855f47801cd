"""The house's map, held to the code: who may import whom, how long a thing may be, what is loaded when."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import workbench

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "workbench"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "migrations" not in p.parts)

STAGES = {"define", "engines", "run", "scorers", "stats", "store"}
OPEN_TO_ALL = {"records", "errors"}
RIGHTS = {  # place: what it may import, beside itself and what is open to all
    "batches": set(),  # each module of this and the next three has rights of its own
    "gates": set(),
    "judges": set(),
    "retrieval": set(),
    "training": {"define", "stats", "store"},
    "define": set(),
    "stats": set(),
    "store": set(),
    "engines": {"registry"},
    "run": {"engines.base"},
    "scorers": {"registry", "engines.base"},
    "loopback": set(),
    "registry": set(),
    "models": {"registry", "engines.base", "run"},
    "scoring": {*STAGES},
    "retrieval.indexes": {"define.files"},
    "retrieval.lookup": {*STAGES, "asking", "flight", "retrieval.indexes", "tracing"},
    "spending": {"run", "store"},
    "flight": {*STAGES, "spending"},
    "tracing": {"engines.base"},
    "asking": {*STAGES, "flight", "models", "spending", "tracing"},
    "judges.judging": {*STAGES, "asking", "flight", "scoring"},
    "judges.labelling": {*STAGES, "judges.judging"},
    "judges.calibrate": {*STAGES, "asking", "flight", "judges.labelling", "spending"},
    "judges.estimates": {"define", "judges.judging", "judges.labelling", "stats", "store"},
    "prepare": {
        "asking",
        "gates.foresight",
        "judges.judging",
        "retrieval.lookup",
        *STAGES,
        "registry",
        "models",
        "scoring",
        "spending",
        "stopping",
    },
    "stopping": {"run", "stats", "store"},
    "batches.submit": {*STAGES, "registry", "models", "prepare", "scoring", "spending", "begin"},
    "batches.collect": {*STAGES, "asking", "batches.submit", "judges.judging", "scoring", "tracing"},
    "gates.foresight": {"define", "stats"},
    "gates.check": {*STAGES, "judges.calibrate", "judges.estimates"},
    "interop": {"define", "store", "scorers.sandbox"},
    "upkeep": {"retrieval.indexes", "run", "store"},
    "gates.bless": {*STAGES},
    "begin": {*STAGES, "asking", "flight", "judges.judging", "prepare", "retrieval.lookup"},
    "authoring": {"define", "store"},
    "api": {*STAGES, "begin", "interop", "evaluate", "gates.check", "prepare", "registry", "views"},
    "pytest_plugin": {"api", "begin", "define"},
    "checks": {"models", "engines.base"},
    "jobs": {"define"},
    "play": {*STAGES, "registry", "models", "prepare", "spending", "tracing"},
    "evaluate": {
        "asking",
        "gates.foresight",
        "flight",
        "judges.judging",
        *STAGES,
        "registry",
        "models",
        "prepare",
        "scoring",
        "begin",
        "stopping",
        "tracing",
    },
    "views": {"stats", "store", "define.sweep"},
    "views.screens": {
        "authoring",
        "checks",
        "jobs",
        "play",
        "begin",
        "evaluate",
        "prepare",
        "models",
        "define",
        "store",
        "training",
        "registry",
        "views",
        "stats",
    },
    "cli": {
        "",
        "jobs",
        "gates.check",
        "gates.bless",
        "batches.submit",
        "batches.collect",
        "asking",
        "judges.calibrate",
        "judges.estimates",
        "gates.foresight",
        "judges.judging",
        "judges.labelling",
        "authoring",
        "checks",
        "begin",
        "interop",
        "training",
        "loopback",
        "upkeep",
        "scoring",
        "spending",
        "evaluate",
        "prepare",
        "models",
        "define",
        "store",
        "registry",
        "views",
    },
    "streamlit_app": {"views.screens"},
    "records": set(),
    "errors": set(),
    "__init__": set(),
    "__main__": {"cli"},
}
BOUND = {  # an outside library stays in one stage
    "llama_cpp": "engines.llama",
    "openai": "engines.openai",
    "botocore": "engines",
    "httpx2": "engines.openai",
    "sqlalchemy": "store",
    "alembic": "store",
    "streamlit": "views.screens",
    "scipy": "stats",
    "statsmodels": "stats",
    "krippendorff": "stats",
    "huggingface_hub": "engines.llama",
    "langchain_core": "engines.langchain",
    "langsmith": "engines.langchain",
    "opentelemetry": "tracing",
    "chromadb": "retrieval.indexes",
}
LAZY = {  # may be imported inside a function: optional, or over 0.1 s to import
    "aiohttp", "alembic", "altair", "chromadb", "botocore", "genai_prices", "httpx2", "huggingface_hub", "jsonschema", "langchain_core", "langsmith", "llama_cpp", "numpy", "openai", "opentelemetry", "pandas", "pyarrow",
    "defusedxml", "py3langid", "pyphen", "referencing", "rouge_score", "sqlglot", "regex", "scipy", "sqlalchemy", "statsmodels", "streamlit", "rapidfuzz",
}  # fmt: skip
LAZY_OWN = {"cli"}  # the command line loads what a command needs when it runs


def place(path: Path) -> str:
    """`workbench/engines/llama/chat.py` → `engines.llama.chat`."""
    if path.is_relative_to(PACKAGE):
        return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    return path.stem


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def imports(tree: ast.AST) -> list[tuple[str, int]]:
    """Every imported module, `from a import b` as `a.b`, with its line."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def broken_rules(name: str, tree: ast.AST) -> list[str]:
    """The import rules that a module breaks."""
    room = max((r for r in RIGHTS if within(name, r)), key=len)
    problems = []
    for imported, line in imports(tree):
        top = imported.split(".")[0]
        if top == "workbench":
            inner = imported.removeprefix("workbench").removeprefix(".")
            allowed = {room, *OPEN_TO_ALL, *RIGHTS[room]}
            own_version = inner == "__version__" and "" in RIGHTS[room]
            if not own_version and not any(within(inner, a) for a in allowed - {""}):
                problems.append(f"{name}:{line} imports workbench.{inner}; it may import {sorted(allowed)}")
        elif top in BOUND and not within(name, BOUND[top]):
            problems.append(f"{name}:{line} imports {top}, which belongs to {BOUND[top]}")
    return problems


@pytest.mark.parametrize("path", [*MODULES, ROOT / "streamlit_app.py"], ids=place)
def test_imports_follow_the_table(path: Path) -> None:
    assert not broken_rules(place(path) or "__init__", ast.parse(path.read_text()))


@pytest.mark.parametrize(
    ("name", "code", "problem"),
    [
        ("define.prompt", "from workbench.store import runs", "it may import"),
        ("stats.paired", "import workbench.views.format", "it may import"),
        ("run.send", "from workbench.engines.echo import EchoEngine", "it may import"),
        ("run.send", "from workbench.engines.base import Engine", None),
        ("evaluate", "import llama_cpp", "belongs to engines.llama"),
        ("engines.llama.engine", "import llama_cpp", None),
        ("cli.run", "from workbench.views.screens import home", None),
        ("cli", "from workbench import __version__", None),
        ("streamlit_app", "from workbench.evaluate import run_suite", "it may import"),
    ],
)
def test_a_broken_rule_is_seen(name: str, code: str, problem: str | None) -> None:
    found = broken_rules(name, ast.parse(code))
    assert (found and problem in found[0]) if problem else not found


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_no_module_and_no_function_is_long(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400, "over 400 lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = node.args
            count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)
            count -= bool(arguments.args) and arguments.args[0].arg in ("self", "cls")
            is_option_list = any("click" in ast.dump(d) for d in node.decorator_list)
            lines = (node.end_lineno or 0) - node.lineno + 1
            screen = within(place(path), "views.screens")
            assert lines <= 50 or screen, f"{node.name} has {lines} lines"
            assert count <= 6 or is_option_list, f"{node.name} has {count} parameters"


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_imports_stand_at_the_top(path: Path) -> None:
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for imported, line in imports(function):
            top = imported.split(".")[0]
            own = top == "workbench" and place(path).split(".")[0] in LAZY_OWN
            assert own or top in LAZY, f"{path.name}:{line} imports {imported} inside a function"


def test_the_map_equals_the_folders() -> None:
    named = set(re.findall(r"^    (\w+(?:\.py|/)) ", workbench.__doc__ or "", re.MULTILINE))
    there = {p.name for p in PACKAGE.glob("*.py") if not p.name.startswith("__")}
    there |= {f"{p.name}/" for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert named == there


def test_public_names_can_be_had() -> None:
    modules = {p.stem for p in PACKAGE.glob("*.py")} | {p.name for p in PACKAGE.iterdir() if p.is_dir()}
    for name in workbench.__all__:
        assert getattr(workbench, name) is not None
        assert name not in modules, f"{name} equals a module"


def test_importing_workbench_loads_nothing_heavy() -> None:
    heavy = ["llama_cpp", "streamlit", "pandas", "scipy", "openai", "sqlalchemy", "numpy"]
    code = f"import sys, workbench; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_help_loads_nothing_heavy() -> None:
    """Time decides no test; what takes the time does: `--help` stays below 0.4 s without these."""
    heavy = [
        "llama_cpp",
        "streamlit",
        "pandas",
        "scipy",
        "openai",
        "sqlalchemy",
        "numpy",
        "jsonschema",
        "huggingface_hub",
    ]
    code = (
        "import sys; from workbench.cli import main; main(['--help'])\n"
        f"print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    assert "Commands:" in done.stdout
