"""Suites in pytest: `pytest --workbench` collects `evals/*.yaml`, and tests in Python have `assert_eval`.

A suite is one item: it runs, reusing what the store has, and fails where trials have no answer or a gate fails or
lacks data. So two workers of pytest-xdist never share a suite; that they share a store is what the store is made
for. The workbench itself is loaded when a suite is collected or a fixture asked for: without either this module
costs nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from workbench.define.shards import Shard, parse_shard, take_shard
from workbench.errors import UseError, WorkbenchError

if TYPE_CHECKING:
    from workbench.api import Result
    from workbench.begin import RunOptions
    from workbench.define.gates import Gate
    from workbench.define.suite import Overrides
    from workbench.records import Suite

ENDINGS = (".yaml", ".yml")
IN_DOUBT = ("fail", "skip", "pass")
FIXTURES = {"workbench", "assert_eval"}
SHARD = pytest.StashKey[Shard | None]()


class SuiteFailed(Exception):
    """A suite's run is not whole, or its gates do not pass."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("workbench", "prompts and models")
    group.addoption("--workbench", action="store_true", help="Collect and run the suites in evals/.")
    group.addoption("--shard", metavar="N/M", help="Only this part of each suite's cases; gates wait for the whole.")
    group.addoption("--changed-since", metavar="REF", help="Only suites that ask something else than at a git ref.")
    parser.addini("workbench_project", "The project's folder, from the root directory on; default: found upwards.")
    parser.addini("workbench_not_enough_data", "What a gate in doubt does: fail (default), skip or pass.")


def pytest_configure(config: pytest.Config) -> None:
    given, in_doubt = config.getoption("--shard"), _in_doubt(config)
    if in_doubt not in IN_DOUBT:
        raise pytest.UsageError(f"workbench_not_enough_data is one of {', '.join(IN_DOUBT)}, not '{in_doubt}'")
    try:
        config.stash[SHARD] = parse_shard(given) if given else None
    except UseError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if not parent.config.getoption("--workbench") or file_path.suffix not in ENDINGS:
        return None
    root = _root_of(file_path)
    return None if root is None else SuiteFile.from_parent(parent, path=file_path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out unchanged suites; of several shards, one runs a test that evaluates in Python."""
    shard, ref = config.stash[SHARD], config.getoption("--changed-since")
    dropped = {i for i in items if shard and _evaluates(i) and not shard.holds(i.nodeid)}
    suites = defaultdict(list)
    for item in items:
        if ref and isinstance(item, SuiteItem):
            suites[item.root].append(item)
    for root, own in suites.items():
        try:
            changed = set(_api().changed_since(ref, root, [str(item.path) for item in own]))
        except WorkbenchError as error:
            raise pytest.UsageError(str(error)) from None
        dropped |= {item for item in own if str(item.path) not in changed}
    if dropped:
        config.hook.pytest_deselected(items=[item for item in items if item in dropped])
        items[:] = [item for item in items if item not in dropped]


class SuiteFile(pytest.File):
    """A suite's file."""

    def collect(self) -> Iterator[SuiteItem]:
        yield SuiteItem.from_parent(self, name=self.path.stem)


class SuiteItem(pytest.Item):
    """A suite's run, with its gates."""

    @property
    def root(self) -> Path:
        found = _root_of(self.path)
        assert found is not None
        return found

    def runtest(self) -> None:
        api, shard = _api(), self.config.stash[SHARD]
        suite = api.load_suite(self.path, self.root)
        if shard is not None:
            if not any(shard.holds(case.id) for case in suite.cases):
                pytest.skip(f"shard {shard} holds none of its {len(suite.cases)} cases")
            suite = take_shard(suite, shard)
        result: Result = api.run_suite(suite, self.root)
        self.add_report_section("call", "workbench", "\n".join([f"run {result.run}", *_means(result)]))
        if result.problem:
            raise SuiteFailed(result.problem)
        if suite.gates and shard is None:
            _hold(result, None, _in_doubt(self.config))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, (WorkbenchError, SuiteFailed, AssertionError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"suite {self.name}"


@dataclass(frozen=True, slots=True)
class Workbench:
    """A project for tests in Python: the fixture `workbench`."""

    root: Path
    in_doubt: str = "fail"
    """What a bound does that can't be decided: `fail`, `skip` or `pass`."""

    def load(self, name: str | Path, overrides: Overrides | None = None) -> Suite:
        """See `workbench.load_suite`."""
        suite: Suite = _api().load_suite(name, self.root, overrides)
        return suite

    def run(
        self, suite: str | Path | Suite, overrides: Overrides | None = None, options: RunOptions | None = None
    ) -> Result:
        """See `workbench.run_suite`."""
        result: Result = _api().run_suite(suite, self.root, overrides, options)
        return result

    def assert_eval(
        self,
        suite: str | Path | Suite,
        *,
        scorer: str | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
        no_worse_than: str | None = None,
        confidence: float = 0.95,
    ) -> Result:
        """Runs a suite and holds each of its variants to bounds, which mean what a gate's mean; without any, to the
        suite's own gates.

        `scorer` is the suite's first where none is named; `no_worse_than` is `baseline` or `reference`, by the
        suite's margin. Fails (AssertionError) with the numbers where a bound is missed or can't be shown with so many
        cases, and where trials have no answer.
        """
        chosen = suite if not isinstance(suite, (str, Path)) else self.load(suite)
        given = {"at_least": at_least, "at_most": at_most, "no_worse_than": no_worse_than}
        gates = _gates(chosen, scorer, given, confidence)
        result = self.run(chosen)
        assert not result.problem, result.problem
        _hold(result, gates, self.in_doubt)
        return result


@pytest.fixture
def workbench(request: pytest.FixtureRequest) -> Workbench:
    """The project around the test's file, or the one that `workbench_project` names."""
    named = request.config.getini("workbench_project")
    start = request.config.rootpath / named if named else request.path.parent
    in_doubt = _in_doubt(request.config)
    return Workbench(start if named else _api().project_root(start), in_doubt)


@pytest.fixture
def assert_eval(workbench: Workbench) -> Any:
    """`assert_eval("sentiment", at_least=0.8)`: see `Workbench.assert_eval`."""
    return workbench.assert_eval


def _gates(suite: Suite, scorer: str | None, given: dict[str, Any], confidence: float) -> list[Gate] | None:
    """The bounds as gates; None: the suite's own."""
    bounds = {rule: bound for rule, bound in given.items() if bound is not None}
    if not bounds:
        if not suite.gates:
            raise UseError(f"suite '{suite.name}' has no gates; give a bound, such as at_least=0.8")
        return None
    names = [spec.name for spec in suite.scorers]
    chosen = scorer or next(iter(names), "")
    if chosen not in names:
        raise UseError(f"suite '{suite.name}' has no scorer '{chosen}'; it has: {', '.join(names) or 'none'}")
    gate = import_module("workbench.define.gates").Gate
    against = bounds.get("no_worse_than")
    if against not in (None, "baseline", "reference"):
        raise UseError(f"no_worse_than is 'baseline' or 'reference', not '{against}'")
    return [
        gate(
            measure="scorer",
            rule=rule,
            bound=suite.margin if rule == "no_worse_than" else float(bound),
            scorer=chosen,
            against=against if rule == "no_worse_than" else None,
            confidence=confidence,
        )
        for rule, bound in bounds.items()
    ]


def _hold(result: Result, gates: list[Gate] | None, in_doubt: str) -> None:
    """Raises AssertionError where gates fail; in doubt, what the setting says."""
    report = result.check_gates(gates)
    lines = "\n".join(_api().verdict_lines(report))
    if report.answer == "not enough data" and in_doubt == "skip":
        pytest.skip(lines)
    passed = ("pass", "unchanged", *(("not enough data",) if in_doubt == "pass" else ()))
    if report.answer not in passed:
        raise AssertionError(f"suite {result.suite.name}, run {result.run}\n{lines}")


def _in_doubt(config: pytest.Config) -> str:
    return str(config.getini("workbench_not_enough_data") or "fail")


def _means(result: Result) -> list[str]:
    return [part.sentence for part in result.view.scorers if part.sentence]


def _evaluates(item: pytest.Item) -> bool:
    return not isinstance(item, SuiteItem) and bool(FIXTURES & set(getattr(item, "fixturenames", ())))


def _root_of(path: Path) -> Path | None:
    """The project of a file in its `evals/`; None where it is in none."""
    try:
        root: Path = _api().project_root(path.parent)
    except UseError:
        return None
    return root if path.is_relative_to(root / "evals") else None


def _api() -> Any:
    return import_module("workbench.api")
