"""Intervals drawn: as an inline SVG for files, as a line of characters for terminals."""

from __future__ import annotations

from markupsafe import Markup

WIDTH, HEIGHT, PAD = 160, 16, 4


def interval_svg(low: float, mean: float, high: float, lo: float, hi: float) -> Markup:
    """The interval low…high with its mean on an axis from `lo` to `hi`; a line at 0 where the axis crosses it.

    Colours come from the page's style by the classes `axis`, `zero`, `range` and `mean`; there is no text, so
    the numbers must stand beside it."""

    def x(value: float) -> str:
        return f"{PAD + (WIDTH - 2 * PAD) * _place(value, lo, hi):.1f}"

    middle = HEIGHT / 2
    zero = f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="0" y2="{HEIGHT}"/>' if lo < 0 < hi else ""
    return Markup(  # noqa: S704 - made of numbers only
        f'<svg class="interval" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" aria-hidden="true">'
        f'<line class="axis" x1="{PAD}" x2="{WIDTH - PAD}" y1="{middle}" y2="{middle}"/>{zero}'
        f'<line class="range" x1="{x(low)}" x2="{x(high)}" y1="{middle}" y2="{middle}"/>'
        f'<circle class="mean" cx="{x(mean)}" cy="{middle}" r="3.5"/></svg>'
    )


def text_bar(low: float, mean: float, high: float, lo: float, hi: float, width: int = 21) -> str:
    """The same in characters: `····──●───│····`, the bar at 0 where the axis crosses it."""

    def at(value: float) -> int:
        return round((width - 1) * _place(value, lo, hi))

    cells = ["·"] * width
    cells[at(low) : at(high) + 1] = "─" * (at(high) - at(low) + 1)
    if lo < 0 < hi:
        cells[at(0)] = "┼" if at(low) <= at(0) <= at(high) else "│"
    cells[at(mean)] = "●"
    return "".join(cells)


def axis(bounds: list[tuple[float, float]], symmetric: bool) -> tuple[float, float]:
    """One axis for several intervals; with 0 in the middle where differences are drawn."""
    if not bounds:
        return (-1.0, 1.0) if symmetric else (0.0, 1.0)
    low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
    if symmetric:
        reach = max(abs(low), abs(high)) or 1.0
        return -reach, reach
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _place(value: float, lo: float, hi: float) -> float:
    """Where the value lies between lo and hi, 0 to 1; in the middle of an axis that is too short for it."""
    return min(1.0, max(0.0, (value - lo) / (hi - lo))) if lo < hi else 0.5
