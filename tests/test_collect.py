"""Scorers that ask models, after a batch: asked by calls of their own when it is collected, each once."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_batch import command, project, stored
from test_batch_kills import DIED, killed

from workbench.batches import submit
from workbench.cli import batches as cli_batches
from workbench.engines.openai import limiter
from workbench.loopback import Script, Server, serve

VERDICT = {"Rate": '{"verdict": 2}'}
JUDGED = "scorers: [contains, {judge: {rubric: grade, model: bench, scale: [1, 2]}}]"
CASES = 4


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "BACKOFF", 0.02)
    monkeypatch.setattr(submit, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(cli_batches, "WAIT_SECONDS", (0.05, 0.1))


def judged(root: Path, url: str, *, price: str = ", price: {input: 1, output: 2}", suite: str = "") -> Path:
    bench = f"  bench: {{engine: openai, model: j, base_url: '{url}', limits: {{retries: 0}}{price}}}\n"
    project(root, url, CASES, more=bench, suite=suite)
    (root / "prompts/grade.prompty").write_text("user:\nRate {{ output }}")
    suite_file = root / "evals/many.yaml"
    suite_file.write_text(suite_file.read_text().replace("scorers: [contains]", JUDGED))
    return root


def asked_judges(server: Server) -> int:
    return sum(count for text, count in server.books.calls.items() if text.startswith("Rate "))


def scores(root: Path) -> list[dict[str, object]]:
    return [{score.scorer: score.value for score in row.scores} for row in stored(root)[1]]


def test_a_judge_is_asked_when_the_batch_has_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(Script(batch_seconds=0.6, answers=VERDICT)) as server:
        root = judged(tmp_path, server.url)
        assert command(root, "run", "many", "--batch") == 0
        assert "judge: models are asked by calls of their own" in capsys.readouterr().err
        assert command(root, "batches", "collect", "latest") == 0
        assert "come when all batches have ended" in capsys.readouterr().err
        assert asked_judges(server) == 0
        assert command(root, "batches", "collect", "latest", "--wait") == 0
        assert f"judging: {CASES} requests" in capsys.readouterr().err
        assert command(root, "batches", "collect", "latest") == 0
        assert asked_judges(server) == CASES, "what is judged is not asked again"
    assert stored(root)[0].status == "complete"
    assert scores(root) == [{"contains": 1.0, "judge": 2.0}] * CASES


@pytest.mark.parametrize(
    ("suite", "project_budget", "what"),
    [("budget: {cost: 0.0004}", "", "the run's budget"), ("", "budget: {cost: 0.0004}", "the project's budget")],
)
def test_judging_stops_before_a_budget_is_passed_and_goes_on_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suite: str, project_budget: str, what: str
) -> None:
    """The batch may take 4 × $21e-6 and a judge's answer about $95e-6, but takes less."""
    with serve(Script(batch_seconds=0, answers=VERDICT)) as server:
        root = judged(tmp_path, server.url, suite=suite)
        file = root / "workbench.yaml"
        file.write_text(file.read_text() + project_budget)
        assert command(root, "run", "many", "--batch", "--quiet") == 0
        (root / "prompts/grade.prompty").write_text("user:\nRate {{ output }}" + " again" * 20)
        assert command(root, "batches", "collect", "latest") == 3
        errors = capsys.readouterr().err
        assert f"judging stopped before a limit: {what}" in errors
        assert 0 < asked_judges(server) < CASES
        assert stored(root)[0].status == "complete"
        if project_budget:
            file.write_text(file.read_text().replace("cost: 0.0004", "cost: 1"))
            assert command(root, "batches", "collect", "latest") == 0
            assert asked_judges(server) == CASES


def test_a_judge_without_a_price_is_not_asked_within_a_budget(tmp_path: Path, capsys) -> None:
    with serve(Script(batch_seconds=0, answers=VERDICT)) as server:
        root = judged(tmp_path, server.url)
        assert command(root, "run", "many", "--batch", "--quiet") == 0
        judged(root, server.url, price="")
        (root / "workbench.yaml").write_text((root / "workbench.yaml").read_text() + "budget: {cost: 1}")
        assert command(root, "batches", "collect", "latest") == 3
        assert "needs the price of 'bench'" in capsys.readouterr().err
        assert asked_judges(server) == 0
    assert scores(root) == [{"contains": 1.0}] * CASES


def test_a_judge_that_is_down_keeps_nothing_from_being_fetched(tmp_path: Path, capsys) -> None:
    with serve(Script(batch_seconds=0, answers=VERDICT)) as server:
        root = judged(tmp_path, server.url)
        assert command(root, "run", "many", "--batch", "--quiet") == 0
        file = root / "workbench.yaml"
        good = file.read_text()
        file.write_text(
            good.replace(f"model: j, base_url: '{server.url}'", "model: j, base_url: 'http://127.0.0.1:9/v1'")
        )
        assert command(root, "batches", "collect", "latest") == 3
        assert "is down" in capsys.readouterr().err
        assert (stored(root)[0].status, scores(root)) == ("complete", [{"contains": 1.0}] * CASES)
        file.write_text(good)
        assert command(root, "batches", "collect", "latest") == 0
    assert scores(root) == [{"contains": 1.0, "judge": 2.0}] * CASES


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_each_step_of_judging(tmp_path: Path, moment: str) -> None:
    """Each answer has its score, nothing is submitted again, and a judge is asked again only for what was under way."""
    died = 0
    for number in range(1, 20):
        with serve(Script(batch_seconds=0, answers=VERDICT)) as server:
            root = judged(tmp_path / str(number), server.url)
            assert killed(root, 99, moment, "run", "many", "--batch", "--quiet") == 0
            code = killed(root, number, moment, "batches", "collect", "latest")
            died += code == DIED
            assert killed(root, 99, moment, "batches", "collect", "latest" if code == 0 else "--all") == 0
            assert server.calls["POST /batches"] == 1
            assert sum(count for text, count in server.books.calls.items() if text.startswith("say ")) == CASES
            assert asked_judges(server) <= 2 * CASES
            assert stored(root)[0].status == "complete"
            assert scores(root) == [{"contains": 1.0, "judge": 2.0}] * CASES
            if code == 0:
                break
    assert died >= 6
