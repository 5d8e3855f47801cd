"""One-sided bounds of a mean or of a paired mean difference: what gates, equivalence and non-inferiority rest on.

They are the ends of the default intervals of `methods.METHODS` at twice the error, so that a bound never
contradicts the interval beside it.
"""

from __future__ import annotations

from workbench.stats.methods import difference_method, mean_method
from workbench.stats.ppi_units import People
from workbench.stats.reduce import Bounds, PairedSample, Sample


def lower_bound(data: Sample | PairedSample | People, alpha: float) -> float | None:
    """What the true mean (or mean difference) lies below with a probability of at most `alpha`, at most 0.5;
    None where nothing can honestly be said."""
    ends = _ends(data, alpha)
    return None if ends is None else ends[0]


def upper_bound(data: Sample | PairedSample | People, alpha: float) -> float | None:
    """What the true mean (or mean difference) lies above with a probability of at most `alpha`, at most 0.5;
    None where nothing can honestly be said."""
    ends = _ends(data, alpha)
    return None if ends is None else ends[1]


def _ends(data: Sample | PairedSample | People, alpha: float) -> Bounds | None:
    if isinstance(data, People):
        return data.ends(2 * alpha)
    if isinstance(data, PairedSample):
        difference = difference_method(data).difference
        return None if difference is None else difference[1](data, 2 * alpha)
    mean = mean_method(data).mean
    return None if mean is None else mean[1](data, 2 * alpha)
