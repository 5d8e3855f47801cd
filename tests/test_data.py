"""Cases of every format: values as the file says, stable ids, and one clear line for what is wrong."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.define.data import load_cases, read_rows, shuffled
from workbench.define.project import Project, load_project
from workbench.define.suite_file import CasesFile
from workbench.define.yamlfile import parse_yaml
from workbench.errors import DataError, UseError
from workbench.records import Case, Message

SUITE = parse_yaml("name: x\ncases: []", "evals/x.yaml")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return load_project(tmp_path)


def load(project: Project, name: str, text: str | bytes, **mapping) -> tuple[Case, ...]:
    (project.root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_cases(CasesFile(file=name, **mapping), project, SUITE)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.jsonl", '{"id": "a", "text": "x, y", "n": "1"}\n\n{"id": "b", "text": "ü\u2028z", "n": "NA"}\n'),
        ("c.ndjson", '\ufeff{"id": "a", "text": "x, y", "n": "1"}\r\n{"id": "b", "text": "ü\u2028z", "n": "NA"}'),
        ("c.json", '[{"id": "a", "text": "x, y", "n": "1"},\n {"id": "b", "text": "ü\u2028z", "n": "NA"}\n]\n'),
        ("c.csv", '\ufeffid,text,n\r\na,"x, y",1\r\n\r\nb,ü\u2028z,NA\r\n'),
        ("c.tsv", "id\ttext\tn\na\tx, y\t1\nb\tü\u2028z\tNA"),
    ],
)
def test_formats_agree_and_guess_nothing(project, name, text):
    cases = load(project, name, text)
    assert [(c.id, dict(c.inputs)) for c in cases] == [
        ("a", {"text": "x, y", "n": "1"}),
        ("b", {"text": "ü\u2028z", "n": "NA"}),
    ]


def test_origins_are_file_and_line(project):
    assert [c.origin for c in load(project, "c.jsonl", '{"id": 1}\n\n{"id": 2}')] == ["c.jsonl:1", "c.jsonl:3"]
    assert [c.origin for c in load(project, "c.csv", 'id,t\n1,"two\nlines"\n2,x\n')] == ["c.csv:2", "c.csv:4"]
    assert [c.origin for c in load(project, "c.json", '[\n{"id": 1},\n\n{"id": 2}]')] == ["c.json:2", "c.json:4"]


def test_parquet_keeps_types_and_gaps(project):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "id": ["a", "b"],
            "whole": pandas.array([1, None], dtype="Int64"),
            "number": [0.5, float("nan")],
            "list": [[1, 2], None],
            "day": pandas.to_datetime(["2024-01-02", None]),
        }
    )
    frame.to_parquet(project.root / "c.parquet")
    a, b = load_cases("c.parquet", project, SUITE)
    assert dict(a.inputs) == {"whole": 1, "number": 0.5, "list": [1, 2], "day": "2024-01-02T00:00:00"}
    assert set(b.inputs.values()) == {None}
    assert b.origin == "c.parquet:2"


def test_mapping(project):
    row = {
        "qid": 7,
        "id": "kept",
        "Question Text": "why?",
        "gold": ["a"],
        "film": "Up",
        "topic": "x, y",
        "kinds": ["z", None],
        "chat": [{"role": "user", "content": "hi"}],
    }
    (case,) = load(
        project,
        "c.jsonl",
        json.dumps(row),
        id="qid",
        expected="gold",
        cluster="film",
        tags=["topic", "kinds"],
        messages="chat",
        inputs={"question": "Question Text"},
    )
    assert (case.id, case.expected, case.cluster, case.tags) == ("7", ["a"], "Up", ("x", "y", "z"))
    assert case.messages == (Message.of("user", "hi"),)
    assert dict(case.inputs) == {**row, "question": "why?"}


def test_default_fields_play_their_parts(project):
    text = 'id,expected,cluster,tags,messages,text\n1,yes,k,"a,b","[{""role"": ""user"", ""content"": ""hi""}]",t\n'
    (case,) = load(project, "c.csv", text)
    assert (case.expected, case.cluster, case.tags, dict(case.inputs)) == ("yes", "k", ("a", "b"), {"text": "t"})
    assert case.messages[0].text == "hi"


def test_rows_of_the_suite_have_its_lines(project):
    located = parse_yaml("name: x\ncases:\n  - {text: a}\n  - text: b\n", "evals/x.yaml")
    assert [c.origin for c in load_cases(located.data["cases"], project, located)] == [
        "evals/x.yaml:3",
        "evals/x.yaml:4",
    ]


def test_where_keeps_rows(project):
    text = "id,lang,n\n1,en,5\n2,de,6\n3,en,7\n"
    assert [c.id for c in load(project, "c.csv", text, where={"lang": "en", "n": [5, 6]})] == ["1"]


@pytest.mark.parametrize(
    ("name", "text", "mapping", "error"),
    [
        ("c.jsonl", "", {}, "c.jsonl: holds no cases"),
        ("c.csv", "id,text\n", {}, "c.csv: holds no cases"),
        ("c.jsonl", '{"a": 1}\n{"a": }', {}, "c.jsonl:2: not JSON: Expecting value at column 7"),
        ("c.jsonl", "\n[1]", {}, "c.jsonl:2: a row must be an object {field: value}"),
        ("c.jsonl", '{"a": NaN}', {}, "c.jsonl:1: not a row: NaN is not JSON; use null"),
        ("c.jsonl", '{"a": 1, "a": 2}', {}, "c.jsonl:1: not a row: field 'a' stands twice"),
        ("c.jsonl", '{"a": "\\ud800"}', {}, "c.jsonl:1: the row holds a value that is not JSON, such as half"),
        ("c.jsonl", "[" * 100_000, {}, "c.jsonl:1: not a row: "),
        ("c.jsonl", b'{"a": 1}\n{"a": "\xff"}', {}, "c.jsonl:2: is not UTF-8 text; save it as UTF-8"),
        ("c.json", '{"a": 1}', {}, "c.json:1: must hold a list of objects"),
        ("c.json", '[{"a": 1}\n{"a": 2}]', {}, "c.json:2: not JSON: ',' or the end of the list is expected"),
        ("c.json", '[{"a": 1},\n{"a" 2}]', {}, "c.json:2: not JSON: Expecting ':' delimiter"),
        ("c.csv", "a,b\n1,2\n3\n", {}, "c.csv:3: the row has 1 fields, the header 2; quote text with commas"),
        ("c.csv", 'a,b\n"x\ny",2\n3,4,5\n', {}, "c.csv:4: the row has 3 fields, the header 2"),
        ("c.csv", 'a,b\n1,"2\n', {}, "c.csv:2: not CSV: unexpected end of data"),
        ("c.csv", "a,a\n1,2\n", {}, "c.csv:1: the header names 'a' twice"),
        ("c.csv", "a,\n1,2\n", {}, "c.csv:1: the header has no name for column 2"),
        ("c.csv", "id;a\nx;1\n", {}, "c.csv:1: the header's columns are parted by semicolons, not by commas; save"),
        ("c.csv", "id\ta\nx\t1\n", {}, "c.csv:1: the header's columns are parted by tabs, not by commas; name"),
        ("c.tsv", "id,a\nx,1\n", {}, "c.tsv:1: the header's columns are parted by commas, not by tabs; name"),
        ("c.parquet", "PAR0", {}, "c.parquet: not a Parquet file: "),
        ("c.xlsx", "x", {}, "c.xlsx: is of no known format; name one with 'format': csv, json, jsonl, parquet, tsv"),
        ("c.csv", "id,a\nx,1\ny,2\nx,3\n", {}, "c.csv:4: two cases have the id 'x', lines 2 and 4; rename one"),
        ("c.jsonl", '{"id": 1}\n{"id": "1"}', {}, "c.jsonl:2: two cases have the id '1', lines 1 and 2"),
        ("c.csv", "a\nx\ny\nx\n", {}, "c.csv:4: lines 2 and 4 hold the same row; remove one, or give rows an id"),
        ("c.jsonl", '{"id": 1}\n{"a": 2}', {}, "c.jsonl:2: the row has no field 'id'"),
        ("c.jsonl", '{"id": null}', {}, "c.jsonl:1: the id in field 'id' must be text or a whole number, not null"),
        ("c.jsonl", '{"a": 1}', {"expected": "lable"}, "c.jsonl:1: the row has no field 'lable'; known: a"),
        ("c.csv", "label\nx\n", {"expected": "lable"}, "c.csv:2: the row has no field 'lable'; did you mean 'label'?"),
        ("c.jsonl", '{"a": 1}', {"inputs": {"b": "c"}}, "c.jsonl:1: the row has no field 'c'"),
        ("c.jsonl", '{"a": 1}', {"where": {"a": 2}}, "evals/x.yaml:2: no row has what 'where' asks for"),
        ("c.jsonl", '{"messages": [{"role": "usr", "content": ""}]}', {}, "c.jsonl:1: unknown role 'usr' in the chat"),
        ("c.jsonl", '{"messages": ["hi"]}', {}, "c.jsonl:1: a chat history must be a list of {role, content}"),
        ("c.csv", "messages,a\nhello,1\n", {}, "c.csv:2: the chat history is not JSON"),
    ],
)
def test_bad_data(project, name, text, mapping, error):
    with pytest.raises(UseError) as caught:
        load(project, name, text, **mapping)
    assert str(caught.value).startswith(error)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("table", "error"),
    [
        (lambda: {"t": pa.array([2**55], pa.timestamp("ms"))}, "c.parquet: a value has no counterpart in Python"),
        (lambda: {"t": pa.array([2**30], pa.date32())}, "c.parquet: a value has no counterpart in Python"),
        (lambda: [pa.array([1]), pa.array([2])], "c.parquet: has the column 't' twice"),
    ],
)
def test_bad_parquet(project, table, error):
    made = table()
    columns = pa.table(made) if isinstance(made, dict) else pa.Table.from_arrays(made, names=["t", "t"])
    path = project.root / "c.parquet"
    pq.write_table(columns, path)
    with pytest.raises(DataError) as caught:
        list(read_rows(path, "c.parquet"))
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("../out.jsonl", "evals/x.yaml:2: '../out.jsonl' leaves the project folder"),
        ("/etc/passwd", "evals/x.yaml:2: '/etc/passwd' leaves the project folder"),
        ("link.jsonl", "evals/x.yaml:2: 'link.jsonl' leaves the project folder"),
        ("none.jsonl", "evals/x.yaml:2: there is no file 'none.jsonl'"),
        ("nul\0.jsonl", "evals/x.yaml:2: 'nul\0.jsonl' is not a path"),
    ],
)
def test_files_stay_in_the_project(tmp_path, name, error):
    (tmp_path / "out.jsonl").write_text('{"a": 1}')
    inside = tmp_path / "project"
    inside.mkdir()
    (inside / "link.jsonl").symlink_to(tmp_path / "out.jsonl")
    with pytest.raises(UseError) as caught:
        load_cases(name, load_project(inside), SUITE)
    assert str(caught.value).startswith(error)


def test_long_fields_are_read(project):
    (case,) = load(project, "c.csv", "text\n" + "x" * 200_000 + "\n")
    assert len(case.inputs["text"]) == 200_000


def test_a_sample_hardly_changes_when_rows_are_added(project):
    rows = [json.dumps({"text": f"row {i}"}) for i in range(200)]
    few = load(project, "a.jsonl", "\n".join(rows[:100]), limit=20)
    same = load(project, "b.jsonl", "\n".join(reversed(rows[:100])), limit=20)
    more = load(project, "c.jsonl", "\n".join(rows[:110]), limit=20)
    other = load(project, "a.jsonl", "\n".join(rows[:100]), limit=20, sample_seed=1)
    ids = [{c.id for c in cases} for cases in (few, same, more, other)]
    assert ids[0] == ids[1] != ids[3]
    assert len(ids[0] & ids[2]) >= 14
    lines = [int(c.origin.split(":")[1]) for c in few]
    assert lines == sorted(lines)


ROWS = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.text(st.characters(codec="utf-8", exclude_characters="\r\0")))
    .map(lambda row: {"a": "", "b": "", "c": "", **row})
    .map(lambda row: tuple(sorted(row.items()))),
    min_size=1,
    unique=True,
)


@settings(max_examples=50, deadline=None)
@given(rows=ROWS, order=st.randoms())
def test_ids_come_from_content_and_formats_agree(tmp_path_factory, rows, order):
    project = load_project(tmp_path_factory.mktemp("p"))
    plain = [dict(row) for row in rows]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, "abc", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(plain)
    from_csv = load(project, "c.csv", table.getvalue())
    from_json = load(project, "c.jsonl", "\n".join(map(json.dumps, plain)))
    assert [dict(c.inputs) for c in from_csv] == plain
    assert [c.id for c in from_csv] == [c.id for c in from_json]
    order.shuffle(plain)
    again = load(project, "d.json", json.dumps(plain))
    assert {c.id: c.inputs for c in again} == {c.id: c.inputs for c in from_json}
    assert shuffled(again, 3) == shuffled(shuffled(again, 4), 3)
