"""Metrics, filters and generation settings of a task of lm-evaluation-harness as scorers and parameters.

https://github.com/EleutherAI/lm-evaluation-harness, `lm_eval/api/metrics.py`, `filters/`, `config/task.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from workbench.interop.lm_eval_file import Task
from workbench.interop.report import Left
from workbench.records import Json

CHOICE_METRICS: Mapping[str, Json] = {
    "acc": {"likeliest": {}},
    "acc_norm": {"likeliest": {"per": "character"}},
    "acc_bytes": {"likeliest": {"per": "byte"}},
    "brier_score": {"calibration": {"measure": "brier"}},
}
"""What the metrics of choices are here; others are of a whole set, or need what is not asked."""
ASIDE = {"metric", "aggregation", "higher_is_better"}
MATCH_KEYS = {"ignore_case", "ignore_punctuation", "ignore_numbers", "regexes_to_ignore"}
PLAIN_STEPS = {"remove_whitespace": "strip", "lowercase": "lower", "uppercase": "upper"}
DIGITS = r"#### (\-?[0-9\.\,]+)"
"""The harness's default `regex_pattern`."""
SAMPLING = {"temperature", "top_p", "top_k"}
MAX_TOKENS = 256
"""Its default `max_gen_toks`."""
MOST_STOPS = 4
"""Texts to stop at that it sends to hosted chat models."""


def choice_scorers(task: Task, lead: str, several: bool) -> list[Json]:
    """For choices by log-likelihood. `several`: a document may have several right ones."""
    for _, steps in _filters(task):
        if steps:
            raise Left("a filter of log-likelihoods", task.place("filter_list"))
    found: list[Json] = []
    default: list[Json] = [{"metric": "acc"}, {"metric": "acc_norm"}]
    for metric in _metrics(task, default):
        name = str(metric["metric"])
        if name not in CHOICE_METRICS or (several and name == "brier_score"):
            raise Left(f"the metric '{name}'", task.place("metric_list"))
        if odd := metric.keys() - ASIDE:
            raise Left(f"'{min(odd)}' of the metric {name}", task.place("metric_list"))
        ((scorer, settings),) = CHOICE_METRICS[name].items()
        leading = {"lead": lead} if lead and scorer == "likeliest" else {}
        found.append({scorer: {**settings, **leading}, "as": name})
    return found


def text_scorers(task: Task) -> list[Json]:
    """For free text: the metric `exact_match` behind each of the filters."""
    filters = list(_filters(task))
    found: list[Json] = []
    for metric in _metrics(task, [{"metric": "exact_match"}]):
        name = str(metric["metric"])
        if name != "exact_match":
            raise Left(f"the metric '{name}'", task.place("metric_list"))
        if odd := metric.keys() - ASIDE - MATCH_KEYS:
            raise Left(f"'{min(odd)}' of the metric {name}", task.place("metric_list"))
        settings: dict[str, Json] = {key: True for key in sorted(MATCH_KEYS - {"regexes_to_ignore"}) if metric.get(key)}
        if patterns := metric.get("regexes_to_ignore"):
            settings["ignore"] = [_pattern(pattern, task, "metric_list") for pattern in _texts(patterns, task)]
        for label, steps in filters:
            stepwise = {"steps": steps} if steps else {}
            found.append({"extracted": {**stepwise, **settings}, "as": f"{name}-{label}" if len(filters) > 1 else name})
    return found


def _metrics(task: Task, default: list[Json]) -> Iterator[Mapping[str, Json]]:
    given = task.get("metric_list", default)
    place = task.place("metric_list")
    if not isinstance(given, list) or not given:
        raise Left("metric_list is no list of metrics", place)
    for metric in given:
        if not isinstance(metric, dict) or not isinstance(metric.get("metric"), str):
            raise Left("metric_list holds an entry without a metric", place)
        how = metric.get("aggregation", "mean")
        if how not in ("mean", metric["metric"]) or (how != "mean" and how != "brier_score"):
            raise Left(f"the aggregation '{how}' of the metric {metric['metric']}", place)
        yield metric


def _filters(task: Task) -> Iterator[tuple[str, list[Json]]]:
    """Each filter's name and its steps; the first of an answer's repeats is taken at the end."""
    default: list[Json] = [{"name": "none", "filter": [{"function": "take_first"}]}]
    given, place = task.get("filter_list", default), task.place("filter_list")
    if not isinstance(given, list) or not given:
        raise Left("filter_list is no list of filters", place)
    for entry in given:
        steps = entry.get("filter") if isinstance(entry, dict) else None
        if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
            raise Left("filter_list holds an entry without a filter", place)
        if not steps or steps[-1].get("function") != "take_first":
            raise Left(f"the filter '{entry.get('name')}', which does not end in take_first", place)
        yield str(entry.get("name")), [_step(step, task) for step in steps[:-1]]


def _step(step: Mapping[str, Json], task: Task) -> Json:
    name, place = step.get("function"), task.place("filter_list")
    if name in PLAIN_STEPS and len(step) == 1:
        return PLAIN_STEPS[str(name)]
    if name != "regex":
        raise Left(f"the filter function '{name}'", place)
    if odd := step.keys() - {"function", "regex_pattern", "group_select", "fallback"}:
        raise Left(f"'{min(odd)}' of the filter function regex", place)
    pick, fallback = step.get("group_select", 0), step.get("fallback")
    if isinstance(pick, bool) or not isinstance(pick, int) or not isinstance(fallback, (str, type(None))):
        raise Left("group_select or fallback of the filter function regex", place)
    found: dict[str, Json] = {"find": _pattern(step.get("regex_pattern", DIGITS), task, "filter_list")}
    return found | ({"pick": pick} if pick else {}) | ({"fallback": fallback} if fallback is not None else {})


def _pattern(pattern: Json, task: Task, key: str) -> str:
    try:
        re.compile(str(pattern))
    except re.error as error:
        raise Left(f"'{pattern}' is no regular expression: {error}", task.place(key)) from error
    return str(pattern)


def _texts(given: Json, task: Task) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise Left("regexes_to_ignore is no list of texts", task.place("metric_list"))
    return given


def generation_params(task: Task, between: str) -> dict[str, Json]:
    """What is sent for free text: greedy, up to 256 tokens and to the delimiter of few shots, where nothing is said."""
    given, place = task.get("generation_kwargs", {"do_sample": False}), task.place("generation_kwargs")
    if not isinstance(given, dict) or (odd := given.keys() - {*SAMPLING, "until", "max_gen_toks", "do_sample"}):
        told = f"'{min(odd)}' of generation_kwargs" if isinstance(given, dict) else "generation_kwargs"
        raise Left(told, place)
    until = given.get("until", [between])
    stop = [text for text in (until if isinstance(until, list) else [until]) if text != ""]
    if not all(isinstance(text, str) for text in stop):
        raise Left("'until' holds more than texts", place)
    warmth, sampled = given.get("temperature", 0.0), given.get("do_sample")
    if sampled and not warmth:
        raise Left("do_sample: true without a temperature", place)
    params: dict[str, Json] = {"temperature": warmth if warmth and sampled is not False else 0}
    if params["temperature"]:
        params |= {name: given[name] for name in ("top_p", "top_k") if name in given}
    return {**params, "max_tokens": given.get("max_gen_toks", MAX_TOKENS), **({"stop": stop} if stop else {})}
