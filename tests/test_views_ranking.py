"""The line under a comparison: which variant is best, and what the cases can show."""

from __future__ import annotations

import pytest
from test_stats import columns, single

from workbench.stats.ranking import Ranking
from workbench.views.model import scorer_view
from workbench.views.ranking import standing

LABELS = {"v0": "zero-shot", "v1": "few-shot", "v2": "chain\x1b[31m"}


def ranking(*kept: str, share: float = 0.83) -> Ranking:
    return Ranking("v1", {"v0": 0.1, "v1": share, "v2": 0.07}, kept, 200, 0.95)


@pytest.mark.parametrize(
    ("found", "sees", "kind", "line"),
    [
        (None, None, "pass", ""),
        (None, 0.0612, "pass", "These cases can show differences to the reference of about 6.1 points."),
        (None, 31.4, "number", "These cases can show differences to the reference of about 31."),
        (
            ranking("v0", "v1"), 0.12, "pass",
            "few-shot is best in 83 % of resamples; zero-shot can't be told from it (95 % confidence, 200 cases); "
            "these cases can show differences to the reference of about 12 points.",
        ),
        (ranking("v1", share=0.999), None, "pass", "few-shot is shown to be the best (95 % confidence, 200 cases), best in >99 % of resamples."),
        (ranking("v1", "v2"), None, "pass", "few-shot is best in 83 % of resamples; chain␛[31m can't be told from it (95 % confidence, 200 cases)."),
        (
            ranking("v0", "v1", "v2"), None, "pass",
            "No variant is shown to be worse than the best (95 % confidence, 200 cases); few-shot is best in 83 % of resamples.",
        ),
    ],
)  # fmt: skip
def test_lines(found, sees, kind, line) -> None:
    assert standing(found, sees, kind, LABELS) == line


@pytest.mark.parametrize(
    ("variants", "ranked", "line"), [(1, False, ""), (2, False, "These cases"), (3, True, "No variant is shown")]
)
def test_three_variants_are_ranked(variants, ranked, line) -> None:
    view = scorer_view(columns(single(*[[1, 0, 1, 1] * 10] * variants)), LABELS, "v0", 0.05, 0.95)
    assert (view.ranking is not None) == ranked
    assert view.standing.startswith(line) and bool(view.standing) == bool(line)
