"""Whether a judge agrees with people: outputs drawn to label, agreement measured, licences written and looked up.

Labels (`evals/labels/NAME.jsonl`) and licences (`evals/judges/NAME.json`) are files in git. A licence is bound to
the rubric's revision, the judge's model and the form of its answers; only labels of outputs that were drawn at
random count for it (`probability` in their row).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import correlation
from threading import Event
from typing import Any, Literal

from workbench.asking import Ask, Asker, Desk, Judging
from workbench.define.files import replace_text
from workbench.errors import DataError, ScorerError, UseError, WorkbenchError
from workbench.flight import Room
from workbench.judges.labelling import Labelled, inside, read_labels
from workbench.records import EMPTY, Json, Output, ScorerSpec
from workbench.run.send import Dispatcher
from workbench.scorers.base import Answered
from workbench.scorers.build import build_scorer
from workbench.scorers.judge import SIDES, Judge
from workbench.spending import project_budget
from workbench.stats.agreement import cohen_kappa, krippendorff_alpha
from workbench.store.database import Database

BAR: Mapping[str, float] = {"labels": 100, "kappa_low": 0.4, "position_bias": 0.1}
"""Random labels at least; lower end of kappa's 95 % interval at least; position bias at most (ruling 25)."""
DAYS = 180
"""How long a licence holds."""
FOLDER = "evals/judges"
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
CALIBRATION = "calibration"
"""Stands where an output names the run that asked for it; no run has that id."""
OTHER = "the other"
"""What a pair of labelled outputs is judged against."""


@dataclass(frozen=True, slots=True)
class LicenceState:
    """Whether a judge may be trusted by a gate."""

    state: Literal["licensed", "unlicensed", "expired"]
    reason: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a judge's agreement with people is, and whether it is enough."""

    licence: Mapping[str, Json]
    """All that the licence's file holds."""
    short_of: tuple[str, ...]
    """Where it falls short of the bar, with the figures; empty: licensed."""
    judging: Judging


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to calibrate."""

    rubric: str
    model: str
    labels: str
    """The file of labels, from the project folder on."""
    settings: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """Further settings of the scorer `judge`: scale, explain, params."""
    days: int = DAYS


def calibrate(
    root: Path, wanted: Wanted, database: Database, limits: Mapping[str, Json], stop: Event | None = None
) -> Calibration:
    """Asks the judge about labelled outputs and measures how it agrees; answers are kept and reused like all
    others, `limits` is the project's budget. Raises UseError, DataError, and what makes going on impossible."""
    labels, digest = read_labels(root, wanted.labels)
    desk = Desk(root, {})
    settings = {**wanted.settings, "rubric": wanted.rubric, "model": wanted.model}
    pairs = bool(labels) and len(labels[0].outputs) == 2
    spec = ScorerSpec("judge", "judge", {**settings, **({"against": OTHER} if pairs else {})})
    judge = build_scorer(spec, root, None, desk)
    assert isinstance(judge, Judge)
    _check_labels(labels, judge, wanted.labels)
    judging = Judging(planned=len(labels))
    found: dict[int, _Said] = {}
    budgets = project_budget(limits, desk.worst_case, CALIBRATION)
    room = Room(database, CALIBRATION, desk.engines, budgets, stop=stop or Event())
    about = {"workbench.rubric": wanted.rubric}
    with (
        desk.traced(f"calibrate {wanted.rubric}", about, judging) as ended,
        Dispatcher(desk.engines, ended=ended) as dispatcher,
    ):
        Asker(room, dispatcher, judging).drive(_Job(judge, row, found, judging) for row in labels)
    said = [found[row.line] for row in labels if row.line in found]
    figures = _figures(said, judge, wanted.model)
    licence = {
        **judge.content[0],
        "settings": dict(settings),
        "labels": {"file": wanted.labels, "sha256": digest, "labelled": len(labels)},
        "figures": figures,
        "bar": dict(BAR),
        "made": today().isoformat(),
        "expires": (today() + timedelta(days=wanted.days)).isoformat(),
    }
    return Calibration(licence, short_of(figures, BAR), judging)


@dataclass(frozen=True, slots=True)
class _Said:
    """What the judge and the person said of one row."""

    row: Labelled
    human: float | str
    judge: float | str | None
    """None: unreadable."""
    sides: tuple[str, ...] = ()
    """Of a pair: what was said in each order."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One labelled row to be judged."""

    judge: Judge
    row: Labelled
    found: dict[int, _Said]
    judging: Judging

    def __call__(self, ask: Ask) -> None:
        """Raises Wanting."""
        row, judge = self.row, self.judge
        second = Output("", row.outputs[-1])
        answer = Answered(Output("", row.outputs[0]), row.case, row.case.expected, ask, lambda variant: second)
        try:
            requests = judge.requests(answer)
        except ScorerError as error:
            self.judging.unscored[str(error)] += 1
            return
        outputs = ask(requests) if requests else []
        if failure := next((output.failure for output in outputs if output.failure), None):
            self.judging.unscored[failure.message] += 1
            return
        self.judging.made += 1
        value = judge.verdicts(outputs)[0][0] if outputs else 0.5
        said = [judge.said(judge.models[0], output)[0] for output in outputs] if judge.pairwise else []
        human = _value(judge, row.label)
        self.found[row.line] = _Said(row, human, value, tuple(point.label for point in said if point))


def _value(judge: Judge, label: str) -> float | str:
    """A label as the judge's value of it; raises KeyError where the scale lacks it."""
    if judge.pairwise:
        return {"first": 1.0, "tie": 0.5, "second": 0.0}[label]
    return {point.label: point.value for point in judge.points}[label]


def _check_labels(labels: Sequence[Labelled], judge: Judge, name: str) -> None:
    if not labels:
        raise DataError("has no label yet; fill the rows' 'label'", name)
    known = set(SIDES) if judge.pairwise else {point.label for point in judge.points}
    for row in labels:
        if (len(row.outputs) == 2) != judge.pairwise:
            wants = "pairs, 'first' and 'second'" if judge.pairwise else "single outputs"
            raise DataError(f"rubric '{judge.rubric}' judges {wants}, which this row is not", name, row.line)
        if row.label not in known:
            raise DataError(f"the label '{row.label}' is not on the scale: {', '.join(sorted(known))}", name, row.line)


def _figures(said: Sequence[_Said], judge: Judge, alias: str) -> dict[str, Json]:
    """Agreement on the rows that were drawn at random, or where there are none, on all."""
    chosen = [one for one in said if one.row.drawn] or said
    used = [one for one in chosen if one.judge is not None]
    ranks = {point.value: float(i) for i, point in enumerate(judge.points)}

    def number(value: float | str | None) -> float:
        return float(value) if isinstance(value, (int, float)) else ranks[value or ""]

    gaps = [number(one.judge) - number(one.human) for one in used]
    ordered = judge.pairwise or not isinstance(judge.points[0].value, str)
    return {
        "n": len(used),
        "random": sum(one.row.drawn for one in used),
        "unreadable": len(chosen) - len(used),
        **_agreement([one.human for one in used], [one.judge for one in used if one.judge is not None], ordered),
        "position": _position(used),
        "length_correlation": _correlation(gaps, [_length(one.row) for one in used]),
        "own_preference": _own(used, gaps, alias),
    }


def _agreement(human: Sequence[float | str], judge: Sequence[float | str], ordered: bool) -> dict[str, Json]:
    """Accuracy beside the base rate, what always giving the most frequent label would get; kappa and alpha; each
    with its 95 % interval, None where there are too few items for one."""
    if not human:
        return {"accuracy": None, "base_rate": None, "kappa": None, "alpha": None}
    kappa = cohen_kappa(human, judge)
    alpha = krippendorff_alpha([human, judge], "interval" if ordered else "nominal")
    return {
        "accuracy": _with_interval(kappa.accuracy, kappa.accuracy_interval),
        "base_rate": None if kappa.base_rate is None else round(kappa.base_rate, 4),
        "kappa": _with_interval(kappa.value, kappa.interval),
        "alpha": _with_interval(alpha.value, alpha.interval),
    }


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> Json:
    if value is None or interval is None:
        return None
    return {"value": round(value, 4), "low": round(interval[0], 4), "high": round(interval[1], 4)}


def _length(row: Labelled) -> float:
    """Characters of the output, or by how many the first is longer."""
    return float(len(row.outputs[0]) - (len(row.outputs[1]) if len(row.outputs) == 2 else 0))


def _position(used: Sequence[_Said]) -> Json:
    """Pairs are asked in both orders, so a fair judge names each place as often: `bias` is the share of `first`
    less that of `second` over all answers, `inconsistent` the share of pairs whose two orders disagree. None
    without pairs."""
    asked = [one.sides for one in used if len(one.sides) == 2]
    if not asked:
        return None
    sides = [side for pair in asked for side in pair]
    turned = {"first": "second", "second": "first", "tie": "tie"}
    return {
        "bias": round((sides.count("first") - sides.count("second")) / len(sides), 4),
        "inconsistent": round(sum(turned[one] != other for one, other in asked) / len(asked), 4),
        "pairs": len(asked),
    }


def _correlation(gaps: Sequence[float], lengths: Sequence[float]) -> float | None:
    """Pearson's r of judge less human with length; None where one of the two does not vary."""
    if len(gaps) < 3 or len(set(gaps)) < 2 or len(set(lengths)) < 2:
        return None
    return round(correlation(gaps, lengths), 4)


def _own(used: Sequence[_Said], gaps: Sequence[float], alias: str) -> Json:
    """By how much the judge exceeds people more on its own model's outputs than on others'; of pairs, on those where
    one of the two is its own, in its favour. None where it wrote none, or all."""
    own: list[float] = []
    others: list[float] = []
    for one, gap in zip(used, gaps, strict=True):
        mine = [model == alias for model in one.row.models]
        if len(mine) == 2 and mine[0] != mine[1]:
            own.append(gap if mine[0] else -gap)
        elif len(mine) == 1:
            (own if mine[0] else others).append(gap)
    if not own or (not others and len(used[0].row.models) == 1):
        return None
    base = sum(others) / len(others) if others else 0.0
    return {"difference": round(sum(own) / len(own) - base, 4), "own": len(own)}


def short_of(figures: Mapping[str, Json], bar: Mapping[str, float]) -> tuple[str, ...]:
    """In words, where figures fall short of a bar."""
    told = []
    if figures["random"] < bar["labels"]:
        told.append(f"{figures['random']} labels drawn at random ('judge sample'), wanted {bar['labels']:g}")
    kappa, position = figures["kappa"], figures["position"]
    if kappa is None or kappa["low"] < bar["kappa_low"]:
        low = "none" if kappa is None else f"{kappa['low']:.2f} (kappa {kappa['value']:.2f}, n = {figures['n']})"
        told.append(f"lower 95 % bound of kappa {low}, wanted {bar['kappa_low']:g}")
    if position is not None and abs(position["bias"]) > bar["position_bias"]:
        told.append(f"position bias {position['bias']:+.2f}, wanted at most {bar['position_bias']:g}")
    return tuple(told)


def licence_name(rubric: str, model: str) -> str:
    """The file's name of a rubric's licence for a model, where none is given."""
    return re.sub(r"[^\w.-]+", "-", f"{rubric.partition('@')[0].rpartition('/')[2]}-{model}").strip("-.") or "judge"


def write_licence(root: Path, name: str, made: Calibration) -> Path:
    """Writes `evals/judges/NAME.json`; raises UseError, with the figures, for a judge below the bar."""
    if not NAME.fullmatch(name):
        raise UseError(f"'{name}' is no licence's name; use letters, digits, '.', '_', '-'")
    if made.short_of:
        who = f"{made.licence['rubric']} by {made.licence['model']}"
        raise UseError(f"no licence for {who}: {'; '.join(made.short_of)}")
    place = inside(root, f"{FOLDER}/{name}.json")
    replace_text(place, json.dumps(made.licence, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return place


def licences(root: Path) -> dict[str, Mapping[str, Json]]:
    """Name → licence, of all files; raises DataError for one that is none."""
    found = {}
    for place in sorted((root / FOLDER).glob("*.json")):
        shown = f"{FOLDER}/{place.name}"
        try:
            licence = json.loads(inside(root, shown).read_text("utf-8"), parse_constant=_no_number)
            date.fromisoformat(licence["expires"])
            short_of(licence["figures"], licence["bar"])
            _ = [licence[name] for name in ("rubric", "revision", "model", "identity", "form")]
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise DataError("is no judge's licence; restore it from git, or calibrate anew", shown) from error
        found[place.stem] = licence
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")  # and would be above every bar, since nothing is below it


def licence_state(root: Path, rubric: str, identity: str, revision: str, form: str) -> LicenceState:
    """Whether a judge, as it would be asked now, has a licence that holds: same rubric revision, model and form of
    answer, above the bar that the licence states, not past its date. Raises DataError."""
    found = [(name, licence) for name, licence in licences(root).items() if licence["rubric"] == rubric]
    if not found:
        return LicenceState("unlicensed", f"nobody has measured it; see 'workbench judge calibrate {rubric}'")
    states = [_state(name, licence, identity, revision, form) for name, licence in found]
    return min(states, key=lambda state: ("licensed", "expired", "unlicensed").index(state.state))


def _state(name: str, licence: Mapping[str, Json], identity: str, revision: str, form: str) -> LicenceState:
    for key, now, what in (
        ("identity", identity, "the judge's model is another"),
        ("revision", revision, "the rubric was edited"),
        ("form", form, "the form of its answers is another"),
    ):
        if licence[key] != now:
            return LicenceState("expired", f"licence '{name}': {what} since; calibrate anew")
    if date.fromisoformat(licence["expires"]) < today():
        return LicenceState("expired", f"licence '{name}' ended on {licence['expires']}; calibrate anew")
    if short := short_of(licence["figures"], licence["bar"]):
        return LicenceState("unlicensed", f"licence '{name}' falls short of its own bar: {'; '.join(short)}")
    return LicenceState("licensed", f"licence '{name}', until {licence['expires']}")


def state_now(root: Path, licence: Mapping[str, Json]) -> LicenceState:
    """The state of a licence's own judge, with the project's files and models as they are now."""
    try:
        judge: Any = build_scorer(ScorerSpec("judge", "judge", licence["settings"]), root, None, Desk(root, {}))
        (now,) = judge.content
    except WorkbenchError as error:
        return LicenceState("unlicensed", f"can't be asked now: {error}")
    return licence_state(root, now["rubric"], now["identity"], now["revision"], now["form"])


def today() -> date:
    return datetime.now(UTC).date()
