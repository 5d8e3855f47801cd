"""LoRA adapters on a local model: the numbers of plain llama.cpp, scales by request, base against tuned in one suite."""

from __future__ import annotations

import gc
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import psutil
import pytest
from doubles.asking import Row, ask, user
from doubles.local import model_file
from doubles.tiny_gguf import WIDTH, _text, _value, write_gguf

from workbench.cli import main
from workbench.define.project import load_project
from workbench.engines.llama import LlamaEngine, context, engine, library
from workbench.engines.llama.adapters import Adapter, scales_of
from workbench.engines.llama.context import Context, Shape
from workbench.errors import EngineError, ModelError, SuiteError
from workbench.models import describe_models
from workbench.records import Model
from workbench.store import runs
from workbench.store.database import Database

pytest.importorskip("llama_cpp")

TINY = {"attn_q": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH)}
SMOLLM2 = {"attn_q": (576, 576), "attn_v": (576, 192)}
"""Inputs and outputs of the matrices."""
SHAPE = Shape(128, 64, 1, 4)
PARAMS = {"temperature": 0, "max_tokens": 8}


def write_adapter(
    path: Path,
    matrices: Mapping[str, tuple[int, int]],
    *,
    seed: int = 0,
    architecture: str = "llama",
    size: float = 1,
    invoked_by: int | None = None,
) -> Path:
    """Random adapters of rank 2 on the first layer's matrices, as llama.cpp's convert_lora_to_gguf.py lays them out;
    with a token that activates them they are an activated LoRA."""
    random, tensors = np.random.default_rng(seed), {}
    for name, (inputs, outputs) in matrices.items():
        tensors[f"blk.0.{name}.weight.lora_a"] = random.normal(0, size, (2, inputs)).astype("<f4")
        tensors[f"blk.0.{name}.weight.lora_b"] = random.normal(0, size, (outputs, 2)).astype("<f4")
    entries = {"general.type": _value("adapter"), "adapter.type": _value("lora")}
    entries |= {
        "general.architecture": _value(architecture),
        "adapter.lora.alpha": struct.pack("<If", 6, 2.0),
    }
    if invoked_by is not None:
        entries["adapter.alora.invocation_tokens"] = struct.pack("<IIQI", 9, 4, 1, invoked_by)
    head, offset = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(entries)), 0
    head += b"".join(_text(key) + value for key, value in entries.items())
    for name, tensor in tensors.items():
        head += _text(name) + struct.pack("<IQQIQ", 2, *tensor.shape[::-1], 0, offset)
        offset += tensor.nbytes
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + b"".join(t.tobytes() for t in tensors.values()))
    return path


def tuned(path: Path, *adapters: tuple[Path, float], **settings: object) -> Model:
    lora = [{"file": str(file), "scale": scale} for file, scale in adapters]
    return Model("tuned", "llama", {"path": str(path), "threads": 1, "context": 128, "lora": lora, **settings})


def logits(path: Path, *adapters: Adapter) -> np.ndarray:
    context = Context(path, SHAPE, adapters=adapters)
    for position, token in enumerate(range(40, 50)):
        context.add(token, position, 0, True)
    context.decode()
    found = context.row(9).logits.copy()
    context.close()
    return found


@pytest.mark.parametrize(
    ("base", "matrices"),
    [("tiny", TINY), pytest.param("smollm2", SMOLLM2, marks=pytest.mark.model)],
)
def test_logits_are_those_of_plain_llama_cpp(base: str, matrices: dict[str, tuple[int, int]], tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf") if base == "tiny" else model_file("f16")
    file = write_adapter(tmp_path / "a.gguf", matrices, size=0.3)
    plain = library.load().Llama(
        str(path), lora_path=str(file), lora_scale=0.5, n_ctx=128, n_batch=64, n_threads=1, logits_all=True,
        flash_attn=True, verbose=False,
    )  # fmt: skip
    plain.eval(list(range(40, 50)))
    wanted = np.array(plain.scores[9])
    plain.close()
    assert logits(path, Adapter(file, 0.5)) == pytest.approx(wanted, abs=1e-3)
    bare = logits(path)
    assert np.abs(bare - wanted).max() > 0.05
    assert np.array_equal(logits(path, Adapter(file, 0.0)), bare)


def test_two_adapters_add_up(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    file = write_adapter(tmp_path / "a.gguf", TINY)
    assert logits(path, Adapter(file, 0.25), Adapter(file, 0.5)) == pytest.approx(
        logits(path, Adapter(file, 0.75)), abs=1e-3
    )


NAMED = [
    ("nothing asked", None, (0.5, 2.0), None),
    ("all", 0.25, (0.25, 0.25), None),
    ("off", 0, (0.0, 0.0), None),
    ("one by name", {"a": 1}, (1.0, 2.0), None),
    ("both", {"a": 0, "b": -1}, (0.0, -1.0), None),
    ("an unknown name", {"aa": 1}, None, "parameter 'lora' names 'aa'; did you mean 'a'?; there are a, b"),
    ("no number", {"a": "much"}, None, "parameter 'lora': the scale of a is 'much'; it has to be a number"),
    ("not finite", float("inf"), None, "parameter 'lora' is inf; it has to be a number"),
    ("a list", [1], None, "parameter 'lora' is [1]; it has to be a number"),
]


@pytest.mark.parametrize(("asked", "scales", "error"), [case[1:] for case in NAMED], ids=[case[0] for case in NAMED])
def test_a_request_names_scales(asked: object, scales: tuple[float, ...] | None, error: str | None) -> None:
    adapters = (Adapter(Path("x/a.gguf"), 0.5), Adapter(Path("b.gguf"), 2.0))
    if error is None:
        assert scales_of(adapters, asked) == scales
    else:
        with pytest.raises(ModelError) as raised:
            scales_of(adapters, asked)
        assert str(raised.value) == error


def test_two_files_of_one_name_and_a_scale_without_adapters_are_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    one, other = write_adapter(tmp_path / "a.gguf", TINY), write_adapter(tmp_path / "other/a.gguf", TINY)
    with pytest.raises(ModelError, match="two adapter files are called a; rename one"):
        LlamaEngine(tuned(path, (one, 1.0), (other, 1.0)))
    plain = LlamaEngine(Model("m", "llama", {"path": str(path)}))
    with pytest.raises(ModelError, match="the model has no adapters"):
        plain.check_params({"lora": 1})
    [output] = ask(plain, user("x", params={"lora": 1}))
    assert output.failure is not None and output.failure.kind == "refused"
    engine = LlamaEngine(tuned(path, (one, 1.0)))
    assert "lora" in engine.capabilities.params and "lora" not in plain.capabilities.params


SCALES = (0, 0.5, 1, {"b": 0}, {"a": 0, "b": 1})


@pytest.mark.parametrize("exact", [True, False])
def test_each_request_has_its_own_scales(exact: bool, tmp_path: Path) -> None:
    """Each answer is that of an alias whose adapters have those scales, and no prefix is shared with others'."""
    path = write_gguf(tmp_path / "tiny.gguf")
    files = [write_adapter(tmp_path / f"{name}.gguf", TINY, seed=seed) for seed, name in enumerate("ab")]
    words = ("hello", "hello you", "hello")
    engine = LlamaEngine(tuned(path, *((file, 1.0) for file in files), exact=exact))
    requests = [
        user(word, f"{i} {j}", params=PARAMS | {"lora": scale})
        for j, word in enumerate(words)
        for i, scale in enumerate(SCALES)
    ]
    found = {output.request_id: output for output in ask(engine, *requests)}
    again = {output.request_id: output for output in ask(engine, *requests)}
    work = engine.work()
    engine.close()
    texts: dict[int, list[str]] = {}
    evaluated = 0
    for i, scale in enumerate(SCALES):
        both = scales_of([Adapter(file, 1.0) for file in files], scale)
        alone = LlamaEngine(tuned(path, *zip(files, both, strict=True), exact=exact))
        answers = [ask(alone, *(user(word, f"{j}", params=PARAMS) for j, word in enumerate(words))) for _ in range(2)]
        texts[i] = [output.text for output in sorted(answers[0], key=lambda output: output.request_id)]
        assert [found[f"{i} {j}"].text for j in range(len(words))] == texts[i]
        assert [again[f"{i} {j}"].text for j in range(len(words))] == texts[i]
        evaluated += alone.work()["evaluated"]
        alone.close()
    assert len({repr(text) for text in texts.values()}) == len(SCALES), "the scales make a difference"
    assert work["evaluated"] == evaluated, "as many tokens as each set of scales by itself"


def test_vectors_have_their_scales(tmp_path: Path) -> None:
    path, file = write_gguf(tmp_path / "tiny.gguf"), write_adapter(tmp_path / "a.gguf", TINY)
    engine = LlamaEngine(tuned(path, (file, 1.0), pooling="mean"))
    asked = {"answer": {"embedding": True}}
    outputs = ask(engine, *(user("hello", f"{s}", params={"lora": s}, **asked) for s in (0, 1)), user("hello", **asked))
    none, full, default = (np.array(output.extra["embedding"]) for output in outputs)
    assert np.array_equal(full, default) and np.abs(none - full).max() > 0.01


def test_content_and_scale_are_part_of_the_identity(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    one = write_adapter(tmp_path / "a.gguf", TINY)
    same = write_adapter(tmp_path / "b.gguf", TINY)
    other = write_adapter(tmp_path / "c.gguf", TINY, seed=1)
    models = [tuned(path), *(tuned(path, (file, 1.0)) for file in (one, same, other)), tuned(path, (one, 0.5))]
    base, first, copied, different, weaker = (LlamaEngine(model).identity for model in models)
    assert first == copied and len({base, first, different, weaker}) == 4


WRONG = [
    ("no such file", lambda root: root / "none.gguf", ModelError, "there is no adapter file .*none.gguf"),
    ("no GGUF", lambda root: root / "text.gguf", ModelError, "text.gguf is not a GGUF file"),
    ("a model", lambda root: root / "tiny.gguf", EngineError, "tiny.gguf is no LoRA adapter for this model: .*adapter"),
    (
        "another architecture",
        lambda root: write_adapter(root / "x.gguf", TINY, architecture="gpt2"),
        EngineError,
        "x.gguf is no LoRA adapter for this model: .*arch",
    ),
    (
        "another shape",
        lambda root: write_adapter(root / "x.gguf", SMOLLM2),
        EngineError,
        "x.gguf is no LoRA adapter for this model: .*shape",
    ),
    (
        "activated",
        lambda root: write_adapter(root / "x.gguf", TINY, invoked_by=5),
        EngineError,
        "x.gguf is an activated LoRA .*: not supported",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_fits_no_model(make, error, message, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(error, match=message) as raised:
        ask(LlamaEngine(tuned(path, (make(tmp_path), 1.0))), user("hello"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("x.gguf", "lora holds 'x.gguf'"),
        ({"file": "x.gguf", "weight": 1}, "lora holds"),
        ({"file": "x.gguf", "scale": float("nan")}, "the scale of x.gguf is nan"),
        ({"file": "x.gguf", "scale": True}, "the scale of x.gguf is True"),
    ],
)
def test_wrong_entries(entry: object, message: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(ModelError, match=message):
        LlamaEngine(Model("m", "llama", {"path": str(path), "lora": [entry]}))


def test_memory_is_flat_and_left_early_all_is_freed(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    file = write_adapter(tmp_path / "a.gguf", {"attn_q": (WIDTH, WIDTH)})

    def switch(times: int) -> int:
        for i in range(times):
            engine = LlamaEngine(tuned(path, (file, 1 + i % 3)))
            answers = engine.generate(Row([user("hello", f"{j}", params=PARAMS, stream=True) for j in range(3)]))
            next(answers)
            answers.close()
            engine.close()
            assert engine._context is None
        gc.collect()
        return psutil.Process().memory_info().rss

    before = switch(30)
    assert switch(30) - before < 20_000_000


PROJECT = """
models:
  base: {{engine: llama, path: {path}, context: 128, options: {{threads: 1}}}}
  tuned: {{engine: llama, path: {path}, context: 128, options: {{threads: 1}}, lora: [{{file: {file}, scale: 0.5}}]}}
"""
SUITE = """
prompts: [p]
models: [base, tuned]
params: {temperature: 0, max_tokens: 8}
exact: true
scorers: [length]
cases: {rows: [{id: a, word: hello}, {id: b, word: hello you}, {id: c, word: something else}]}
"""


def project(root: Path, path: Path, file: str) -> Path:
    for folder in ("prompts", "evals"):
        (root / folder).mkdir()
    (root / "workbench.yaml").write_text(PROJECT.format(path=path, file=file))
    (root / "prompts/p.prompty").write_text("user:\n{{ word }}")
    (root / "evals/s.yaml").write_text(SUITE)
    return root


def test_the_scale_is_an_axis_of_a_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    root = tmp_path / "project"
    root.mkdir()
    project(root, path, "adapters/a.gguf")
    write_adapter(root / "adapters/a.gguf", TINY)
    suite = SUITE.replace("[base, tuned]", "[tuned]").replace("max_tokens: 8", "max_tokens: 8, lora: [0, 0.5, {a: 1}]")
    (root / "evals/s.yaml").write_text(suite)
    assert main(["--project", str(root), "run", "s"]) == 0
    told = capsys.readouterr().out
    assert all(axis in told for axis in ("lora=0 ", "lora=0.5 ", 'lora={"a":1} ')), told
    (root / "evals/s.yaml").write_text(suite.replace("{a: 1}", "{b: 1}"))
    assert main(["--project", str(root), "run", "s"]) == 2
    assert "parameter 'lora' names 'b'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("base", "matrices"),
    [("tiny", TINY), pytest.param("smollm2", SMOLLM2, marks=pytest.mark.model)],
)
def test_base_and_tuned_in_one_suite(base: str, matrices: dict[str, tuple[int, int]], tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf") if base == "tiny" else model_file("f16")
    root = tmp_path / "project"
    root.mkdir()
    project(root, path, "adapters/a.gguf")
    write_adapter(root / "adapters/a.gguf", matrices)
    assert main(["--project", str(root), "run", "s", "--quiet"]) == 0
    database = Database.open(f"sqlite:///{root}/.workbench/runs.db")
    with database.read() as connection:
        found = list(runs.trial_rows(connection, runs.get_run(connection, "latest").id))
    database.close()
    texts: dict[str, dict[str, str]] = {}
    for row in found:
        assert row.output.failure is None
        texts.setdefault(row.variant_id, {})[row.case_id] = row.output.text
    models = load_project(root).models
    alone = []
    for alias in ("base", "tuned"):
        exact = Model(alias, "llama", {**models[alias].settings, "exact": True})
        engine = LlamaEngine(exact)
        words = {"a": "hello", "b": "hello you", "c": "something else"}
        alone.append({i: ask(engine, user(word, params=PARAMS))[0].text for i, word in words.items()})
        engine.close()
    assert alone[0] != alone[1]
    assert sorted(map(repr, map(sorted, (t.items() for t in texts.values())))) == sorted(
        repr(sorted(t.items())) for t in alone
    )


def test_the_list_of_models_shows_it(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "adapters").mkdir()
    write_adapter(tmp_path / "adapters/a.gguf", TINY)
    models = load_project(project(tmp_path, path, "adapters/a.gguf")).models
    shown = {row["alias"]: row["what"] for row in describe_models(models)}
    assert shown["tuned"] == f"{path} with a.gguf × 0.5" and shown["base"] == str(path)


@pytest.mark.parametrize("file", ["../a.gguf", "/etc/passwd", "link.gguf"])
def test_adapters_lie_inside_the_project(file: str, tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    write_adapter(tmp_path / "a.gguf", TINY)
    (root / "link.gguf").symlink_to(tmp_path / "a.gguf")
    with pytest.raises(SuiteError, match=r"leaves the project folder") as raised:
        load_project(project(root, tmp_path / "tiny.gguf", file))
    assert "workbench.yaml" in str(raised.value)


def test_only_a_local_model_takes_adapters(tmp_path: Path) -> None:
    (tmp_path / "workbench.yaml").write_text("models: {a: {engine: echo, lora: [{file: a.gguf}]}}")
    with pytest.raises(SuiteError, match="models.a has lora: only a local model"):
        load_project(tmp_path)


def test_the_speed_of_a_model_with_adapters_is_measured_with_them(tmp_path: Path, monkeypatch) -> None:
    base, adapter = write_gguf(tmp_path / "base.gguf"), write_adapter(tmp_path / "a.gguf", TINY)
    given: list[int] = []
    load = context.load_adapters
    monkeypatch.setattr(
        context, "load_adapters", lambda model, adapters: given.append(len(adapters)) or load(model, adapters)
    )
    monkeypatch.setattr(engine, "OTHER_FORMS", ())
    [speed] = LlamaEngine(Model("m", "llama", {"path": str(base), "lora": [{"file": str(adapter)}]})).measure()
    assert given == [1] and speed.prompt > 0
