"""Examples to fine-tune on: what is picked, what is held out, and that a tuned model is not asked what it was taught."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doubles.pages import opened, press, said, texts
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from workbench.cli import main
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.errors import WorkbenchError
from workbench.interop.frames import load_runs
from workbench.store.casequeries import CaseRow
from workbench.store.database import Database
from workbench.store.runs import find_run, run_variants, trial_rows
from workbench.store.votes import keep_vote
from workbench.training.pick import _held_out

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "islet", "jetty", "knoll", "larch", "marsh", "north", "otter", "plume", "quartz", "reed", "shale", "thorn", "umber", "vale", "wharf", "yarrow", "zephyr"]  # fmt: skip
CASES = 40


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def text_of(i: int) -> str:
    return f"{i:02} " + " ".join(random.Random(i).sample(WORDS, 6))


def rows() -> list[dict[str, object]]:
    return [{"id": f"c{i:02}", "text": text_of(i), "label": "yes" if i % 2 else "no"} for i in range(CASES)]


def right(model: str, fraction: int) -> str:
    """Answers of a model that is right but for each `fraction`-th case."""
    told = {}
    for i in range(CASES):
        label, other = ("yes", "no") if i % 2 else ("no", "yes")
        told[f"{i:02} .*"] = other if i % fraction == 0 else label
    return json.dumps(told)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path / "prompts/short.prompty", "user:\nShort: {{ text }}")
    write(tmp_path / "prompts/long.prompty", "system:\nBe brief.\nuser:\nLong: {{ text }}")
    write(
        tmp_path / "workbench.yaml",
        f"models:\n  small: {{engine: echo, options: {{answers: {right('small', 2)}}}}}\n"
        f"  large: {{engine: echo, options: {{answers: {right('large', 5)}}}}}\n",
    )
    write(tmp_path / "data/cases.jsonl", "\n".join(map(json.dumps, rows())))
    write(
        tmp_path / "evals/s.yaml",
        "prompts: [short, long]\nmodels: [small, large]\n"
        "cases: {file: data/cases.jsonl, expected: label, quarantine: [c03]}\nscorers: [exact, word_f1, length]\n",
    )
    run(tmp_path, "run", "s", "--quiet")
    return tmp_path


def run(project: Path, *args: str) -> int:
    return main(["--project", str(project), *args])


def exported(project: Path, *args: str) -> tuple[list[dict], dict]:
    out = project / "data/train.jsonl"
    assert run(project, "export", "training", "latest", "--out", str(out), *args) == 0
    return [json.loads(line) for line in out.read_text().splitlines()], json.loads(
        (project / "data/train.cases.json").read_text()
    )


def number(example: dict) -> int:
    return int(
        next(m["content"] for m in (example.get("messages") or example["prompt"]) if m["role"] == "user").split()[1]
    )


def label(i: int) -> str:
    return "yes" if i % 2 else "no"


@pytest.mark.parametrize(
    ("args", "good", "prompts"),
    [
        (["--only", "model=large", "--only", "prompt=short"], lambda i: i % 5, {"Short:"}),
        (["--only", "model=large", "--only", "prompt=long", "--as", "prompt=short", "--as", "model=small"], lambda i: i % 5, {"Short:"}),
        (["--only", "model=small"], lambda i: i % 2, {"Short:", "Long:"}),
        (["--answers", "expected", "--as", "prompt=long", "--as", "model=small"], lambda i: True, {"Long:"}),
        (["--answers", "word_f1", "--least", "0.5", "--only", "model=large"], lambda i: i % 5, {"Short:", "Long:"}),
        (["--answers", "length", "--most", "2", "--only", "model=large"], lambda i: (i % 5 and i % 2 == 0) or (i % 5 == 0 and i % 2), {"Short:", "Long:"}),
        ([], lambda i: i % 2 or i % 5, {"Short:", "Long:"}),
    ],
)  # fmt: skip
def test_good_answers_with_the_messages_they_were_given_to(project, args, good, prompts) -> None:
    examples, told = exported(project, *args)
    found = {}
    for example in examples:
        *asked, answer = example["messages"]
        i = number({"messages": asked})
        wrong = "length" in args and i % 5 == 0
        assert answer == {"role": "assistant", "content": label(i + wrong)}, "only good answers"
        assert asked[-1]["content"].endswith(text_of(i))
        found.setdefault(i, set()).add(asked[-1]["content"].split()[0])
    aside = {int(i[1:]) for i in held_out_ids(project)}
    assert set(found) == {i for i in range(CASES) if i != 3 and i not in aside and good(i)}, (
        "quarantined c03 is in none"
    )
    assert all(seen == prompts for seen in found.values())
    assert set(told["trained"]) == {f"c{i:02}" for i in found}
    assert set(told["passed_over"]) == {
        f"c{i:02}" for i in range(CASES) if i not in found and i not in aside and i != 3
    }
    assert told["held_out"] == len(aside) and 4 <= len(aside) <= 20
    assert told["sha256"] == hashlib.sha256((project / "data/train.jsonl").read_bytes()).hexdigest()
    assert told["inputs"] == ["text"], "what the prompts use, not the label"


def held_out_ids(project: Path) -> set[str]:
    told = json.loads((project / "data/train.cases.json").read_text())
    return {row["id"] for row in rows()} - {"c03"} - set(told["trained"]) - set(told["passed_over"])


def test_the_same_cases_are_held_out_whatever_is_learnt(project: Path) -> None:
    exported(project, "--only", "model=small")
    before = held_out_ids(project)
    exported(project, "--answers", "expected")
    assert held_out_ids(project) == before
    exported(project, "--answers", "expected", "--hold-out", "0")
    assert held_out_ids(project) == set()


def test_a_good_answer_and_a_worse_one(project: Path) -> None:
    """Only the small model is wrong where the large one is right: the pairs are of those cases."""
    examples, _ = exported(project, "--to", "preferences", "--as", "prompt=short", "--as", "model=small")
    assert examples
    for example in examples:
        i = number(example)
        assert i % 5 == 0 or i % 2 == 0
        assert example["chosen"] == [{"role": "assistant", "content": label(i)}]
        assert example["rejected"] == [{"role": "assistant", "content": "no" if i % 2 else "yes"}]
    assert {number(e) for e in examples}.isdisjoint({i for i in range(CASES) if i % 10 == 0}), "no one is right there"
    other, _ = exported(project, "--to", "openai-preferences", "--as", "prompt=short", "--as", "model=small")
    assert [(e["input"]["messages"], e["preferred_output"], e["non_preferred_output"]) for e in other] == [
        (e["prompt"], e["chosen"], e["rejected"]) for e in examples
    ]
    completion, _ = exported(project, "--to", "completion", "--only", "model=large")
    assert completion[0].keys() == {"prompt", "completion"}


def test_people_preferred(project: Path) -> None:
    """Three people on one case, a tie of two on another, and on a third answers to unlike messages."""
    exported(project, "--answers", "expected")
    side = sorted(json.loads((project / "data/train.cases.json").read_text())["trained"])
    wrong = [name for name in side if int(name[1:]) % 2 == 0 and int(name[1:]) % 5][:3]
    with Database.open(f"sqlite:///{project}/.workbench/runs.db").write() as connection:
        found = find_run(connection, "latest")
        labels = {v.id: v.label for v in run_variants(connection, found)}
        trials = {(r.case_id, labels[r.variant_id]): r.trial_id for r in trial_rows(connection, found)}

        def vote(rater: str, case: str, first: str, second: str, said: str) -> None:
            keep_vote(connection, found, rater, (trials[case, first], trials[case, second]), said)

        for rater, said in (("Ann", "second"), ("Bob", "second"), ("Cem", "first")):
            vote(rater, wrong[0], "short · small", "short · large", said)
        vote("Ann", wrong[1], "short · small", "short · large", "first")
        vote("Bob", wrong[1], "short · large", "short · small", "first")
        vote("Ann", wrong[2], "short · small", "long · large", "second")
    examples, told = exported(project, "--to", "preferences", "--answers", "votes")
    assert [(f"c{number(e):02}", e["chosen"][0]["content"]) for e in examples] == [(wrong[0], "no")]
    assert list(told["trained"]) == [wrong[0]]
    examples, _ = exported(
        project, "--to", "preferences", "--answers", "votes", "--as", "prompt=short", "--as", "model=small"
    )
    assert sorted(f"c{number(e):02}" for e in examples) == sorted([wrong[0], wrong[2]])


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["--answers", "exakt"], "unknown scorer 'exakt'; did you mean 'exact'"),
        (["--answers", "length"], "scorer 'length' passes nothing: say what a good answer is given, at least or at most"),
        (["--answers", "votes"], "they go with the forms of preferences"),
        (["--answers", "votes", "--to", "preferences"], "there is no example to write: 0 examples of 0 cases"),
        (["--answers", "expected", "--to", "preferences"], "the expected answers have no worse ones beside them"),
        (["--as", "prompt=short"], "--as must name one variant, but 2 are so"),
        (["--as", "prompt=shirt"], "no variant has prompt=shirt"),
        (["--only", "model=tiny"], "no variant has model=tiny"),
        (["--hold-out", "1"], "--hold-out"),
        (["--least", "2"], "there is no example to write"),
    ],
)  # fmt: skip
def test_wrong_use(project: Path, args: list[str], error: str, capsys) -> None:
    assert run(project, "export", "training", "latest", *args) == 2
    assert error in capsys.readouterr().err
    assert not (project / "data/training").exists()


def test_no_other_file_is_overwritten(project: Path, capsys) -> None:
    data = project / "data/cases.jsonl"
    before = data.read_bytes()
    assert run(project, "export", "training", "latest", "--out", str(data)) == 2
    assert "exists and was not written by this; choose another file" in capsys.readouterr().err
    assert data.read_bytes() == before
    exported(project)
    exported(project, "--answers", "expected")  # its own file it writes anew


def screen(project: Path, monkeypatch) -> AppTest:
    monkeypatch.setenv("WORKBENCH_PROJECT", str(project))
    app = AppTest.from_string("from workbench.views.screens.compare import show\nshow()\n", default_timeout=60)
    return opened(app, view="training")


def test_the_app_writes_the_same(project: Path, monkeypatch) -> None:
    app = screen(project, monkeypatch)
    by_label = {w.label: w for w in [*app.selectbox, *app.text_input, *app.multiselect, *app.slider]}
    by_label["File in the project"].set_value("data/app.jsonl")
    by_label["Form"].set_value("completion")
    large = [option for option in by_label["Answers of"].options if "large" in option]
    by_label["Answers of"].set_value(
        [v for v, o in zip(by_label["Answers of"].value, by_label["Answers of"].options, strict=True) if o in large]
    )
    press(app, "Write")
    exported(project, "--to", "completion", "--only", "model=large")
    assert (project / "data/app.jsonl").read_text() == (project / "data/train.jsonl").read_text()
    told = [json.loads((project / f"data/{name}.cases.json").read_text()) for name in ("app", "train")]
    assert told[0] == {**told[1], "examples": "app.jsonl"}
    assert "data/app.jsonl: " in said(app) and "held out" in said(app)
    assert "trained_on: data/app.cases.json" in texts(app)


@pytest.mark.parametrize(
    ("file", "error"),
    [
        ("../out.jsonl", "leaves the project folder"),
        ("data/cases.jsonl", "exists and was not written by this"),
        ("workbench.yaml", "exists and was not written by this"),
        ("", "exists and was not written by this"),
    ],
)
def test_what_the_app_refuses(project: Path, monkeypatch, file: str, error: str) -> None:
    app = screen(project, monkeypatch)
    next(w for w in app.text_input if w.label == "File in the project").set_value(file)
    press(app, "Write")
    assert error in said(app)


def load(project: Path, text: str) -> list[str]:
    """The ids of the cases of a suite on the tuned model."""
    write(project / "evals/tuned.yaml", text)
    found = load_project(project)
    return [case.id for case in load_suite("tuned", found, Library(found.library_root)).cases]


def tuned(project: Path) -> None:
    path = project / "workbench.yaml"
    path.write_text(path.read_text() + "  tuned: {engine: echo, trained_on: data/train.cases.json}\n")


SUITE = "prompts: [short]\nmodels: [small, tuned]\nscorers: [exact]\ncases: {file: %s%s}\n"


def test_a_tuned_model_is_not_asked_what_it_was_taught(project: Path) -> None:
    _, told = exported(project, "--only", "model=large", "--only", "prompt=short")
    tuned(project)
    # The same texts in another order, under other ids, with a further column.
    moved = [{"name": f"x{r['id']}", "text": r["text"], "label": r["label"], "more": 1} for r in reversed(rows())]
    write(project / "data/moved.jsonl", "\n".join(map(json.dumps, moved)))
    fields = ", id: name, expected: label"
    with pytest.raises(WorkbenchError) as caught:
        load(project, SUITE % ("data/moved.jsonl", fields))
    assert str(caught.value).startswith(
        f"evals/tuned.yaml:4: model 'tuned' was trained on {len(told['trained'])} of the 40 cases (data/train.cases.json)"
    )
    kept = load(project, SUITE % ("data/moved.jsonl", fields + ", held_out: data/train.cases.json"))
    assert {name[1:] for name in kept} == held_out_ids(project) | {"c03"}, "neither those passed over"
    new = [{"id": "n1", "text": "a text that nobody saw", "label": "yes"}]
    write(project / "data/new.jsonl", "\n".join(map(json.dumps, new)))
    assert load(project, SUITE % ("data/new.jsonl", ", expected: label")) == ["n1"]
    alone = SUITE.replace("[small, tuned]", "[small]") % ("data/moved.jsonl", fields)
    assert len(load(project, alone)) == 40, "the others may be asked anything"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "there is no file 'data/train.cases.json'"),
        ("{", "is no .cases.json file"),
        ("[1]", "is no .cases.json file"),
        ('{"training": 2}', "is no .cases.json file"),
        ('{"training": 1, "examples": "x", "sha256": "", "inputs": [], "trained": [], "held_out": 0}', "trained"),
        ("\ud800", "is no .cases.json file"),
    ],
)
@pytest.mark.parametrize("key", ["held_out", "trained_on"])
def test_a_file_that_is_none(project: Path, text: str | None, error: str, key: str) -> None:
    if text is not None:
        (project / "data/train.cases.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    held_out = ", held_out: data/train.cases.json" if key == "held_out" else ""
    if key == "trained_on":
        tuned(project)
    suite = SUITE if key == "trained_on" else SUITE.replace("[small, tuned]", "[small]")
    with pytest.raises(WorkbenchError, match=error.replace(".", r"\.")):
        load(project, suite % ("data/cases.jsonl", ", expected: label" + held_out))


def test_nothing_is_left(project: Path) -> None:
    exported(project, "--answers", "expected", "--hold-out", "0")
    rows_of_training = [row for row in rows() if row["id"] != "c03"]
    write(project / "data/cases.jsonl", "\n".join(map(json.dumps, rows_of_training)))
    with pytest.raises(WorkbenchError, match=r"evals/tuned.yaml:4: all 39 cases were for training"):
        load(project, SUITE.replace(", tuned", "") % ("data/cases.jsonl", ", held_out: data/train.cases.json"))


def test_a_chat_is_known_by_all_of_it(tmp_path: Path) -> None:
    """Two cases with the same inputs that continue unlike chats: only one was trained on."""
    write(tmp_path / "prompts/p.prompty", "system:\nBe brief.\nuser:\n{{ text }}")
    write(
        tmp_path / "workbench.yaml", "models: {m: {engine: echo, options: {answers: {'more': yes}}}, t: {engine: echo}}"
    )
    chats = [{"id": f"c{i}", "text": "and more?", "messages": [{"role": "user", "content": f"{i}"}], "expected": "yes"} for i in range(30)]  # fmt: skip
    write(tmp_path / "data/chats.jsonl", "\n".join(map(json.dumps, chats)))
    suite = "prompts: [p]\nmodels: [m]\nscorers: [exact]\ncases: {file: data/chats.jsonl, cluster: id%s}\n"
    write(tmp_path / "evals/s.yaml", suite % "")
    assert run(tmp_path, "run", "s", "--quiet") == 0
    with Database.open(f"sqlite:///{tmp_path}/.workbench/runs.db").read() as connection:
        assert len({json.dumps(r.messages) for r in trial_rows(connection, find_run(connection, "latest"))}) == 30
    # Inputs that say the same are one group: it stands on one side as a whole.
    code = run(tmp_path, "export", "training", "latest", "--out", str(tmp_path / "data/train.jsonl"))
    if code:
        pytest.fail("the group of c0 is on the side of training")
    told = json.loads((tmp_path / "data/train.cases.json").read_text())
    assert len(set(told["trained"].values())) == 30
    other = [{**chats[0], "id": "new", "messages": [{"role": "user", "content": "another chat"}]}]
    write(tmp_path / "data/chats.jsonl", "\n".join(map(json.dumps, [*chats, *other])))
    assert load(tmp_path, suite % ", held_out: data/train.cases.json") == ["new"]


@pytest.mark.parametrize(
    ("prompt", "form", "line"),
    [
        ("---\nmodel: {apiType: completion}\n---\nQ {{ text }} A:", "completion", {"prompt": "Q one A:", "completion": "yes"}),
        ("---\nmodel: {apiType: completion}\n---\nQ {{ text }} A:", "chat", "the prompt is raw text, which has no messages"),
        (
            "---\ntools: [{name: look, kind: function, parameters: {}}]\n---\nuser:\nQ {{ text }} A:", "chat",
            {"messages": [{"role": "user", "content": "Q one A:"}, {"role": "assistant", "content": "yes"}], "tools": "look"},
        ),
        ("user:\nQ {{ text }} A:", "chat", {"messages": [{"role": "user", "content": "Q one A:"}, {"role": "assistant", "content": "yes"}]}),
    ],
)  # fmt: skip
def test_forms_of_prompts(tmp_path: Path, prompt: str, form: str, line: dict | str, capsys) -> None:
    write(tmp_path / "prompts/p.prompty", prompt)
    write(tmp_path / "workbench.yaml", "models: {m: {engine: echo, options: {answers: {'Q one': yes}}}}")
    write(
        tmp_path / "evals/s.yaml", "prompts: [p]\nmodels: [m]\nscorers: [exact]\ncases: [{text: one, expected: yes}]\n"
    )
    assert run(tmp_path, "run", "s", "--quiet") == 0
    out = tmp_path / "x.jsonl"
    code = run(tmp_path, "export", "training", "latest", "--to", form, "--hold-out", "0", "--out", str(out))
    printed = capsys.readouterr().err
    if isinstance(line, str):
        assert code == 2 and line in printed and not out.exists()
        return
    found = json.loads(out.read_text())
    if "tools" in line:
        assert found.pop("tools")[0]["function"]["name"] == line.pop("tools")
    assert found == line
    assert "so few examples (1) seldom change what a model does" in printed
    assert "no case is held out" in printed


def test_an_answer_that_was_cut_is_no_example(tmp_path: Path) -> None:
    write(tmp_path / "prompts/p.prompty", "user:\n{{ text }}")
    write(tmp_path / "workbench.yaml", "models: {m: {engine: echo, options: {answers: {one: yes indeed, two: yes}}}}")
    write(
        tmp_path / "evals/s.yaml",
        "prompts: [p]\nmodels: [m]\nparams: {max_tokens: 1}\nscorers: [contains]\n"
        "cases: [{id: a, text: one, expected: yes}, {id: b, text: two, expected: yes}]\n",
    )
    assert run(tmp_path, "run", "s", "--quiet") == 0
    _, told = exported(tmp_path, "--hold-out", "0")
    assert set(told["trained"]) == {"b"} and set(told["passed_over"]) == {"a"}


def case_rows(numbers: list[int], clusters: dict[int, str]) -> list[CaseRow]:
    return [CaseRow(f"c{i}", "", clusters.get(i), (), {"text": text_of(i)}, None, True, False) for i in numbers]


@given(st.lists(st.integers(0, 400), unique=True, max_size=60), st.data())
def test_a_case_keeps_its_side(numbers, data) -> None:
    """Whatever other cases come or go, and wherever it stands; a cluster is never parted."""
    clusters = {i: f"k{i % 7}" for i in numbers if i % 3 == 0}
    aside = _held_out(case_rows(numbers, clusters), 0.3)
    for name in set(clusters.values()):
        assert len({f"c{i}" in aside for i in numbers if clusters.get(i) == name}) == 1
    free = [i for i in numbers if i not in clusters]
    fewer = data.draw(st.lists(st.sampled_from(free), unique=True)) if free else []
    assert {f"c{i}" for i in fewer} & aside == _held_out(case_rows(fewer, {}), 0.3)
    assert _held_out(case_rows(numbers, clusters), 0) == set()


def test_about_the_share_that_was_asked_for() -> None:
    found = len(
        _held_out(
            [CaseRow(f"r{i}", "", None, (), {"n": str(hash((i, 7)))}, None, True, False) for i in range(2000)], 0.3
        )
    )
    assert abs(found / 2000 - 0.3) < 0.04


def test_copies_stay_together() -> None:
    cases = [
        CaseRow(f"c{i}", "", None, (), {"text": text_of(i // 2) + "!" * (i % 2)}, None, True, False) for i in range(200)
    ]
    aside = _held_out(cases, 0.5)
    assert all((f"c{i}" in aside) == (f"c{i + 1}" in aside) for i in range(0, 200, 2))
    assert 20 < len(aside) < 180


@pytest.mark.model
@pytest.mark.slow
def test_the_example_goes_the_whole_way(tmp_path: Path) -> None:
    """A real model learns a little, is opened again, and is asked only what it never saw."""
    home = Path(__file__).resolve().parents[1]
    command = [home / "examples/finetune/run.sh", tmp_path / "p", "--layers", "1", "--epochs", "2", "--windows", "2"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = map(float, re.findall(r"loss ([0-9.]+) a token", done.stdout))
    assert second < first < 5
    told = json.loads((tmp_path / "p/data/train.cases.json").read_text())
    frame = load_runs(tmp_path / "p", "latest")
    assert set(frame["model"]) == {"smollm2+f32", "tuned"}
    assert set(frame["case"]).isdisjoint(told["trained"]) and frame["case"].nunique() == told["held_out"]
    assert frame["output"].notna().all()
    answers = frame.pivot(index="case", columns="model", values="output")
    assert (answers["tuned"] != answers["smollm2+f32"]).any(), "it is another model"
