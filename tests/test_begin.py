"""A stop that comes while a run is planned: nothing is written, nothing is asked."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

import workbench
from workbench.evaluate import run_suite
from workbench.store import runs
from workbench.store.database import Database

SUITE = """
name: many
prompts: [hello]
models: [echo]
repeats: 1000
cases: [{id: a, who: Ann}, {id: b, who: Bob}]
scorers: []
"""


class Later(Event):
    """Is set when it has been looked at so often: a Ctrl-C in the midst of a plan."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0 or super().is_set()


@pytest.fixture
def prepared(tmp_path: Path):
    for name, text in {"prompts/hello.prompty": "user:\nHello {{ who }}", "evals/many.yaml": SUITE}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return workbench.prepare_suite(workbench.load_suite("many", tmp_path), tmp_path)


@pytest.mark.parametrize("looks", [0, 1, 700])
def test_a_stop_ends_the_planning(tmp_path: Path, prepared, looks: int) -> None:
    assert sum(len(block) for block in prepared.blocks(0, Later(looks))) == looks
    database = Database.open(f"sqlite:///{tmp_path}/runs.db")
    with pytest.raises(KeyboardInterrupt):
        run_suite(prepared, database, stop=Later(looks))
    with database.read() as connection:
        assert runs.list_runs(connection) == []
    database.close()


def test_without_a_stop_all_is_planned(prepared) -> None:
    assert sum(len(block) for block in prepared.blocks(0, Event())) == 2000
    plain = [p.request.id for block in prepared.blocks(0) for p in block]
    assert [p.request.id for block in prepared.blocks(0, Event()) for p in block] == plain
