"""Budgets: the arithmetic, and runs that stop before a limit is passed and can be resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.cli import main
from workbench.define.project import load_project
from workbench.loopback import Fault, Script, serve
from workbench.records import Failure, Message, Output, Part, Request
from workbench.run.budget import Budget, Use, most_tokens
from workbench.store import runs
from workbench.store.database import Database


def ask(number: int, text: str = "hello", **params: object) -> Request:
    return Request(f"r{number}", "m", (Message.of("user", text),), params)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=30), st.integers(1, 400), st.integers(1, 8))
def test_what_is_spent_never_passes_the_limit(requests, limit: int, at_once: int) -> None:
    """Each request takes at most its worst case: whatever order answers come in, the limit holds."""
    worst = {f"r{i}": Use(float(a + b), a + b) for i, (a, b) in enumerate(requests)}
    budget = Budget(cost=float(limit), tokens=limit, worst=lambda r: worst[r.id])
    flying: list[int] = []
    for i in range(len(requests)):
        if budget.passed_by(ask(i)):
            continue
        budget.ask(ask(i))
        flying.append(i)
        if len(flying) == at_once:
            done = flying.pop(0)
            took = requests[done][0]
            budget.settle(Output(f"r{done}", prompt_tokens=took, output_tokens=0, cost=float(took)))
    for done in flying:
        budget.settle(
            Output(f"r{done}", prompt_tokens=sum(requests[done]), output_tokens=0, cost=float(sum(requests[done])))
        )
    assert budget.spent.cost <= limit
    assert budget.spent.tokens <= limit


def test_a_failure_that_tells_nothing_counts_with_its_worst_case() -> None:
    budget = Budget(cost=10, worst=lambda r: Use(2.0, 5))
    budget.ask(ask(1))
    budget.settle(Output("r1", finish_reason="failed"))
    assert budget.spent == Use(2.0, 5)


@pytest.mark.parametrize(
    ("output", "spent", "beyond"),
    [
        (Output("r1", prompt_tokens=2, output_tokens=1, cost=0.5), Use(0.5, 3), Use()),
        (Output("r1", prompt_tokens=2, output_tokens=1), Use(2.0, 3), Use(2.0, 0)),
        (Output("r1", prompt_tokens=2), Use(2.0, 5), Use(2.0, 3)),
        (Output("r1", prompt_tokens=2, output_tokens=1, cost=0.5, extra={"lost_tries": 2}), Use(4.5, 13), Use(4.0, 10)),
        (Output("r1", failure=Failure("timeout", "")), Use(2.0, 5), Use(2.0, 5)),
        (Output("r1", failure=Failure("timeout", ""), extra={"lost_tries": 1}), Use(4.0, 10), Use(4.0, 10)),
        (Output("r1", failure=Failure("refused", "")), Use(), Use()),
        (Output("r1", failure=Failure("too_long", ""), extra={"lost_tries": 1}), Use(2.0, 5), Use(2.0, 5)),
    ],
)
def test_what_an_answer_does_not_tell_counts_with_its_worst_case(output: Output, spent: Use, beyond: Use) -> None:
    budget = Budget(cost=10, worst=lambda r: Use(2.0, 5))
    budget.ask(ask(1))
    assert budget.settle(output) == beyond
    assert budget.spent == spent


def test_all_that_is_sent_is_in_the_worst_case() -> None:
    image = Message("user", (Part("text", "what is it?"), Part("image", "data:image/png;base64,AAAA")))
    plain, _ = most_tokens(Request("r", "m", (Message.of("user", "what is it?"),)))
    tool = {"name": "look", "description": "x" * 900}
    assert most_tokens(Request("r", "m", (image,)))[0] > plain + 10_000
    assert most_tokens(Request("r", "m", (Message.of("user", "what is it?"),), tools=(tool,)))[0] > plain + 900
    schema = {"schema": {"type": "string", "description": "x" * 900}}
    assert most_tokens(Request("r", "m", (Message.of("user", "what is it?"),), answer=schema))[0] > plain + 900


@pytest.mark.parametrize("text", ["hello", "日本語", "🎉" * 5, "a" * 1000])
def test_a_prompt_has_no_more_tokens_than_bytes(text: str) -> None:
    prompt, most = most_tokens(ask(1, text, max_tokens=7))
    assert prompt >= len(text)
    assert most == 7
    assert most_tokens(ask(1, text))[1] is None


SUITE = """
name: s
prompts: [p]
models: [house]
params: {max_tokens: 4}
cases: {rows: [%s]}
scorers: [length]
budget: %s
"""
ROWS = ", ".join(f"{{id: c{i}, text: word{i}}}" for i in range(20))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "evals").mkdir()
    (tmp_path / "prompts/p.prompty").write_text("user:\n{{ text }} number one of a few")
    (tmp_path / "workbench.yaml").write_text(
        "models: {house: {engine: echo, price: {input: 1000, output: 1000}, limits: {concurrency: 3}, options: {delay: 0.02}}}"
    )
    return tmp_path


def run(root: Path, budget: str, *options: str) -> int:
    (root / "evals/s.yaml").write_text(SUITE % (ROWS, budget))
    return main(["--project", str(root), "run", "s", "--quiet", *options])


def latest(root: Path):
    database = Database.open(load_project(root).store_url)
    with database.read() as connection:
        found = runs.get_run(connection, "latest")
        rows = list(runs.trial_rows(connection, found.id))
    database.close()
    return found, rows


@pytest.mark.parametrize(
    ("budget", "reason"),
    [("{cost: 0.2}", "of $0.2 are spent"), ("{tokens: 150}", "of 150 tokens"), ("{time: 0.1s}", "is used up")],
)
def test_a_run_stops_before_its_budget_and_is_resumed(project: Path, capsys, budget: str, reason: str) -> None:
    budget = budget.replace("0.1s", "1s") if "time" in budget else budget
    if "time" in budget:
        text = (project / "workbench.yaml").read_text()
        (project / "workbench.yaml").write_text(text.replace("delay: 0.02", "delay: 0.4"))
    assert run(project, budget) == 3
    printed = capsys.readouterr()
    assert reason in printed.err
    assert "--resume" in printed.err
    found, rows = latest(project)
    assert found.status == "stopped"
    assert 0 < found.answered < 20
    spent = sum(r.output.cost for r in rows if r.output)
    assert "cost" not in budget or spent <= 0.2
    assert run(project, "{}", "--resume", found.id) == 0
    assert latest(project)[0].answered == 20


def test_resuming_with_a_larger_budget_counts_what_was_spent(project: Path, capsys) -> None:
    assert run(project, "{cost: 0.1}") == 3
    first, _ = latest(project)
    assert run(project, "{cost: 0.15}", "--resume", first.id) == 3
    second, rows = latest(project)
    assert second.id == first.id
    assert second.answered > first.answered
    assert sum(r.output.cost for r in rows if r.output) <= 0.15
    assert run(project, "{cost: 20}", "--resume", first.id) == 0
    assert latest(project)[0].answered == 20


def test_the_project_may_have_a_budget_of_its_own(project: Path, capsys) -> None:
    (project / "workbench.yaml").write_text("budget: {cost: 0.2}\n" + (project / "workbench.yaml").read_text())
    assert run(project, "{}") == 3
    assert run(project, "{}", "--fresh") == 3
    assert "project" in capsys.readouterr().err
    database = Database.open(load_project(project).store_url)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT sum(cost) FROM outputs").scalar() <= 0.2


@pytest.mark.parametrize(
    ("where", "fault", "most_calls"),
    [
        ("project", Fault("not_json"), 3),
        ("suite", Fault("not_json"), 3),
        ("suite", Fault("cut"), 3),
        ("suite", Fault(status=400), 20),  # nobody pays for what was refused
        ("suite", Fault("not_json", times=3), 6),  # three tries that were lost, then three answers
    ],
)
def test_what_may_have_been_paid_for_counts_in_the_runs_after(
    project: Path, capsys, where: str, fault: Fault, most_calls: int
) -> None:
    """Each call may cost 0.045 $ at most: three fit into the budget, whatever is resumed or asked afresh."""
    retries = 5 if fault.times else 0
    limit = "{cost: 0.15}"
    with serve(Script(faults=(fault,))) as server:
        (project / "workbench.yaml").write_text(
            f"{f'budget: {limit}' if where == 'project' else ''}\nmodels: {{house: {{engine: openai, model: m, base_url: "
            f"{server.url}, price: {{input: 1000, output: 1000}}, limits: {{retries: {retries}, concurrency: 1}}}}}}\n"
        )
        own = "{}" if where == "project" else limit
        for options in ((), ("--resume", "latest")) if where == "suite" else ((), ("--fresh",)):
            assert run(project, own, *options) == 3
        assert server.books.calls.total() == most_calls * (2 if fault.status == 400 else 1)
        assert fault.status == 400 or "of $0.15 are spent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("params: {max_tokens: 4}", "params: {}"), "max_tokens"),
        (("{cost: 1}", "{costs: 1}"), "unknown key"),
    ],
)
def test_a_budget_that_can_not_be_kept_is_refused(project: Path, capsys, change, message: str) -> None:
    (project / "evals/s.yaml").write_text((SUITE % (ROWS, "{cost: 1}")).replace(*change))
    assert main(["--project", str(project), "run", "s"]) == 2
    assert message in capsys.readouterr().err


def test_a_budget_in_cost_needs_a_known_price(project: Path, capsys) -> None:
    text = (project / "workbench.yaml").read_text().replace("price: {input: 1000, output: 1000}, ", "")
    (project / "workbench.yaml").write_text(text)
    assert run(project, "{cost: 1}") == 2
    assert "price" in capsys.readouterr().err


def test_prices_come_from_the_table_by_address_and_model() -> None:
    from workbench.models import with_price
    from workbench.records import Model

    known = with_price(Model("m", "openai", {"model": "gpt-5-mini"}))
    in_batch = {"batch_input": 0.125, "batch_output": 1.0, "batch_cached_input": 0.0125}
    assert known.price == {"input": 0.25, "output": 2.0, "cached_input": 0.025, **in_batch}
    assert with_price(Model("m", "openai", {"model": "gpt-5-mini", "base_url": "http://127.0.0.1:1/v1"})).price is None
    assert with_price(Model("m", "openai", {"model": "no-such-model-x"})).price is None
    own = Model("m", "openai", {"model": "gpt-5-mini"}, price={"input": 1.0, "output": 1.0})
    assert with_price(own) is own


def test_the_plan_tells_the_price_and_its_spread(project: Path, capsys) -> None:
    (project / "evals/s.yaml").write_text(SUITE % (ROWS, "{cost: 5}"))
    assert main(["--project", str(project), "run", "s", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert 0 < plan["cost_low"] < plan["cost"]
