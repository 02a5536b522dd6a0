"""Charts as inline SVG: text in the page's colour, series told apart by colour and by shape."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

WIDTH: Final = 440
HEIGHT: Final = 290
NARROW: Final = 360
LEFT, LEFT_NARROW, RIGHT, TOP, BOTTOM = 52, 6, 14, 12, 44
STYLES: Final = 12
"""Series that can be told apart; beyond that they begin anew."""

GREY: Final = 7
"""The style of what is not clear."""

Bounds = tuple[float, float]

_CORNERS: Final[tuple[tuple[Bounds, ...], ...]] = (
    (),
    ((-3, -3), (3, -3), (3, 3), (-3, 3)),
    ((0, -4.2), (4, 3), (-4, 3)),
    ((0, -4.4), (4.4, 0), (0, 4.4), (-4.4, 0)),
)
"""Of the marks: none for a circle, a square, a triangle, a diamond."""


@dataclass(frozen=True)
class Series:
    """Points of one line.

    Args:
        name: for the legend.
        points: x and y.
        bounds: for each point the ends of its bar, or None.
        quiet: one of those in the background; they share a grey line and a name in the legend.
    """

    name: str
    points: Sequence[tuple[float, float]]
    bounds: Sequence[Bounds | None] = ()
    quiet: bool = False


@dataclass(frozen=True)
class Bar:
    """A figure with its interval on a line of its own.

    `clear` tells that the interval excludes zero.
    """

    label: str
    value: float
    bounds: Bounds | None
    clear: bool


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers from at or above `low` to at or below `high`, at most so many."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def tick_text(value: float) -> str:
    """Return a tick's number, short."""
    if value and (abs(value) < 0.001 or abs(value) >= 1e6):
        return f"{value:.0e}"
    return f"{value:,.10g}"


def line_chart(
    series: Sequence[Series],
    title: str,
    x_title: str,
    y_title: str,
    log_x: bool = False,
    y_bounds: Bounds | None = None,
    x_ticks: Sequence[float] = (),
) -> Markup:
    """Return a chart of lines; with more than one of them a legend follows."""
    xs = [x for s in series for x, _ in s.points]
    ys = [y for s in series for _, y in s.points]
    clear = [s for s in series if not s.quiet]
    ys += [end for s in clear for bounds in s.bounds if bounds for end in bounds]
    low, high = y_bounds or _padded(min(ys), max(ys))
    left, right = min(xs), max(xs)
    if log_x:
        left, right = math.log10(left), math.log10(right)
    room = (right - left) * 0.04 or 1.0
    left, right = left - room, right + room

    def place(x: float, y: float) -> tuple[float, float]:
        x = math.log10(x) if log_x else x
        across = (x - left) / (right - left)
        up = (y - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (
            HEIGHT - TOP - BOTTOM
        )

    parts = []
    for y in ticks(low, high):
        height = place(xs[0], y)[1]
        parts.append(_line(LEFT, height, WIDTH - RIGHT, height, "grid"))
        parts.append(_text(LEFT - 6, height + 4, tick_text(y), "end"))
    whole = all(x == int(x) for x in xs)
    shown = x_ticks or [x for x in ticks(min(xs), max(xs)) if not whole or x == int(x)]
    for x in _spread(shown, lambda v: place(v, low)[0]):
        across = place(x, low)[0]
        parts.append(_line(across, HEIGHT - BOTTOM, across, HEIGHT - BOTTOM + 4, "axis"))
        parts.append(_text(across, HEIGHT - BOTTOM + 17, tick_text(x), "middle"))
    parts.append(_line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis"))
    for each in (s for s in series if s.quiet):
        parts.append(_path([place(x, y) for x, y in each.points], "series others"))
    for i, each in enumerate(clear):
        places = [place(x, y) for x, y in each.points]
        for (across, _), bounds in zip(places, each.bounds, strict=False):
            if bounds is not None:
                ends = [place(xs[0], end)[1] for end in bounds]
                parts.append(_line(across, ends[0], across, ends[1], f"bar s{i % STYLES}"))
        parts.append(_path(places, f"series s{i % STYLES}"))
        if len(places) <= 30:
            parts += [marker(i, x, y) for x, y in places]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_title, "middle"))
    parts.append(
        f'<text transform="translate(13 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_title)}</text>'
    )
    chart = svg(WIDTH, HEIGHT, title, parts)
    others = [s.name for s in series if s.quiet]
    return chart + legend([s.name for s in clear], others) if len(series) > 1 else chart


def reliability_chart(bins: Sequence[tuple[float, float, int]], title: str) -> Markup:
    """Return predicted (x) against observed (y), both in percent; size by cases."""
    most = max(cases for _, _, cases in bins)
    side = HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / 100 * side, HEIGHT - BOTTOM - y / 100 * side

    parts = []
    for tick in (0, 25, 50, 75, 100):
        x, y = place(tick, tick)
        parts.append(_line(LEFT, y, LEFT + side, y, "grid"))
        parts.append(_text(LEFT - 6, y + 4, str(tick), "end"))
        parts.append(_text(x, HEIGHT - BOTTOM + 17, str(tick), "middle"))
    parts.append(_line(*place(0, 0), *place(100, 100), "ideal"))
    parts.append(_path([place(said, true) for said, true, _ in bins], "series s0"))
    for said, true, cases in bins:
        x, y = place(said, true)
        radius = 2.5 + 5 * math.sqrt(cases / most)
        parts.append(f'<circle class="mark s0" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>')
    parts.append(_text(LEFT + side / 2, HEIGHT - 8, "probability of yes, %", "middle"))
    parts.append(
        f'<text transform="translate(13 {TOP + side / 2:.0f}) rotate(-90)" text-anchor="middle">'
        "share that is yes, %</text>"
    )
    return svg(LEFT + side + RIGHT + 6, HEIGHT, title, parts)


def bar_chart(bars: Sequence[Bar], title: str, x_title: str) -> Markup:
    """Return figures with their intervals, one below the other, and a line at zero.

    There are two, of which the page shows one: with the names beside the bars, and for narrow
    screens with the names above them.
    """
    left = 16 + 7.2 * max(len(b.label) for b in bars)
    wide = _bars(bars, title, x_title, max(WIDTH + 60, left + 300), left, 19)
    narrow = _bars(bars, title, x_title, NARROW, LEFT_NARROW, 36)
    return Markup(f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>')


def _bars(
    bars: Sequence[Bar], title: str, x_title: str, width: float, left: float, row: float
) -> Markup:
    ends = [0.0, *(b.value for b in bars), *(e for b in bars for e in b.bounds or ())]
    low, high = _padded(min(ends), max(ends))
    foot = TOP + row * len(bars)
    above = left == LEFT_NARROW

    def place(x: float) -> float:
        return left + (x - low) / (high - low) * (width - left - RIGHT)

    parts = []
    # Where names stand above, the lines leave room for them.
    spans = [(foot - row * (i + 1) + row / 2, foot - row * i) for i in range(len(bars))]
    for top, end in spans if above else [(TOP, foot)]:
        parts += [_line(place(t), top, place(t), end, "grid") for t in ticks(low, high, 5)]
        parts.append(_line(place(0), top, place(0), end, "axis"))
    for tick in ticks(low, high, 5):
        parts.append(_text(place(tick), foot + 16, tick_text(tick), "middle"))
    for i, bar in enumerate(bars):
        y = TOP + row * (i + (0.74 if above else 0.5))
        style = 0 if bar.clear else GREY
        if above:
            parts.append(_text(left, y - 13, bar.label, "start"))
        else:
            parts.append(_text(left - 8, y + 4, bar.label, "end"))
        if bar.bounds is not None:
            parts.append(_line(place(bar.bounds[0]), y, place(bar.bounds[1]), y, f"bar s{style}"))
        parts.append(marker(0 if bar.clear else 1, place(bar.value), y, style))
    parts.append(_text((left + width - RIGHT) / 2, foot + 36, x_title, "middle"))
    return svg(width, foot + BOTTOM, title, parts)


def marker(shape: int, x: float, y: float, style: int | None = None) -> str:
    """Return a small mark; its shape and colour follow the number of the series."""
    kind = f'class="mark s{(shape if style is None else style) % STYLES}"'
    corners = _CORNERS[shape % len(_CORNERS)]
    if not corners:
        return f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="3.4"/>'
    path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon {kind} points="{path}"/>'


def legend(names: Sequence[str], others: Sequence[str] = ()) -> Markup:
    """Return a list of the series' names, each with its line and mark, then of those in grey."""
    keys = [
        (_path([(0, 6), (28, 6)], f"series s{i % STYLES}") + marker(i, 14, 6), name)
        for i, name in enumerate(names)
    ]
    if others:
        keys.append((_path([(0, 6), (28, 6)], "series others"), ", ".join(others)))
    items = [
        '<li><svg class="key" viewBox="0 0 28 12" width="28" height="12" aria-hidden="true">'
        f"{key}</svg>{escape(name)}</li>"
        for key, name in keys
    ]
    return Markup(f'<ul class="legend">{"".join(items)}</ul>')


def svg(width: float, height: float, title: str, parts: Sequence[str]) -> Markup:
    """Return a picture that scales with the page, its title read out to those who cannot see."""
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'style="max-width:{width * 1.25:.0f}px"><title>{escape(title)}</title>'
        f"{''.join(parts)}</svg>"
    )


def _path(places: Sequence[tuple[float, float]], kind: str) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline class="{kind}" points="{points}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _padded(low: float, high: float) -> Bounds:
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _spread(values: Sequence[float], place: Callable[[float], float]) -> list[float]:
    """Return those of rising values whose labels do not run into one another."""
    kept: list[float] = []
    for value in values:
        if not kept or place(value) - place(kept[-1]) > 12 + 6 * len(tick_text(value)):
            kept.append(value)
    return kept
