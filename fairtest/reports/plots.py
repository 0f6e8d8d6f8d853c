"""What a report draws: intervals of gates, levels by group and arm, bias against epsilon, and lines over steps.

Each function gives an <svg> element (fairtest.reports.figures) from plain data, or "" where there is nothing to draw.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairtest.reports.figures import ARMS, colour, drawing, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 720.0
COLUMNS = 3
_ROW = 22.0
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
# What a row says -> its colour, its mark, and whether that is hollow.
_MARKS = {
    "PASS": ("PASS", "o", False),
    "FAIL": ("FAIL", "s", False),
    "UNDECIDED": ("UNDECIDED", "D", True),
    "above zero": ("arm-1", "s", False),
    "below zero": ("arm-0", "o", False),
    "open": ("ink", "D", True),
    "means nothing": ("muted", "x", False),
}
_STYLES = ("-", "--", "-.", ":")
_LARGEST = 1e100
_FAR = 4.0  # an interval is cut where it goes on for more than so many times the median width of all


def drawable(number: Any) -> float:
    """A number of the document (infinite ones are texts there); one beyond any axis is infinite."""
    value = float(number)
    return math.copysign(math.inf, value) if abs(value) > _LARGEST else value


@dataclass(frozen=True)
class Interval:
    """A value with its interval; bounds may be infinite."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, data: Mapping[str, Any] | None) -> Interval | None:
        """Of an estimate of the document; None where there is none, or its value is no number."""
        if data is None:
            return None
        value, low, high = (drawable(data[name]) for name in ("value", "low", "high"))
        return None if not math.isfinite(value) or math.isnan(low) or math.isnan(high) else cls(value, low, high)


@dataclass(frozen=True)
class ForestRow:
    """One gate: its label (number and arms), the verdict, what was measured and what is allowed; or a part of a whole,
    of which none is allowed (None) and which says whether it is zero.
    """

    label: str
    verdict: str
    interval: Interval | None
    allowed: float | None
    shown: str


@dataclass(frozen=True)
class Panel:
    """One group of a metric (or a metric without groups, `title` ""): levels by arm, and the target if there is one."""

    title: str
    target: float | None
    levels: Mapping[str, Interval]


@dataclass(frozen=True)
class Line:
    """Several series of [step, value] that share a name (the seeds of an arm, say) and the colour of a place."""

    label: str
    place: int
    series: tuple[tuple[tuple[float, float], ...], ...]


def cut(text: str, most: int) -> str:
    """A long name without its middle: both ends tell arms apart."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def forest(
    blocks: Sequence[tuple[str, Sequence[ForestRow]]],
    *,
    name: str,
    title: str,
    description: str,
    axis: str,
    neutral: float,
) -> str:
    """Blocks (heading, rows) of gates or parts in one unit: interval, estimate, and the zone beyond what is allowed.
    `neutral`: the value of no change, or of nothing.
    """
    rows = [row for _, block in blocks for row in block]
    intervals = [row.interval for row in rows if row.interval is not None]
    if not intervals:
        return ""
    low, high = _limits(intervals, [neutral, *(row.allowed for row in rows if row.allowed is not None)])
    lines = len(rows) + len(blocks)
    height = lines * _ROW + 56
    with drawing(WIDTH, height) as figure:
        axes = _axes(figure, (240, 8, 300, lines * _ROW), height)
        axes.set_xlim(low, high)
        axes.set_ylim(lines, 0)
        axes.set_yticks([])
        axes.set_xlabel(cut(axis, 60))
        place = 0.0
        for heading, block in blocks:
            _label(axes, -240, place + 0.62, cut(heading, 80), weight="bold")
            place += 1
            for row in block:
                drawn = colour("line" if row.allowed is not None else "muted")
                axes.plot([neutral] * 2, [place, place + 1], color=drawn, linewidth=1, zorder=1)
                _forest_row(axes, row, place, low, high)
                place += 1
        return svg(figure, name=name, title=title, description=description)


def _forest_row(axes: Axes, row: ForestRow, place: float, low: float, high: float) -> None:
    from matplotlib.patches import Rectangle

    middle = place + 0.5
    _label(axes, -230, middle, cut(row.label, 33))
    _label(axes, 310, middle, cut(row.shown, 26))
    if row.allowed is not None:
        allowed = min(max(row.allowed, low), high)
        axes.add_patch(Rectangle((allowed, place), high - allowed, 1, color=colour("zone"), linewidth=0))
        axes.plot([allowed] * 2, [place, place + 1], color=colour("muted"), linewidth=1.5, solid_capstyle="butt")
    if row.interval is not None:
        name, marker, hollow = _MARKS.get(row.verdict, ("ink", "o", False))
        mark = colour(name)
        _whisker(axes, row.interval, middle, mark, (low, high))
        face = colour("paper") if hollow else mark
        value = min(max(row.interval.value, low), high)
        axes.plot(
            [value], [middle], marker, color=mark, markerfacecolor=face, markersize=7, markeredgewidth=1.6, zorder=4
        )


def levels(
    heading: str, panels: Sequence[Panel], arms: Mapping[str, int], *, name: str, title: str, description: str
) -> str:
    """A metric's groups, at most `COLUMNS`, side by side: a row an arm, its level with interval, and the target.
    `arms`: the place of each, which has a colour and a mark.
    """
    found = [interval for panel in panels for interval in panel.levels.values()]
    if not found:
        return ""
    height = len(arms) * _ROW + 84
    with drawing(WIDTH, height) as figure:
        figure.text(0, 1 - 14 / height, cut(heading, 80), fontweight="bold")
        for column, panel in enumerate(panels):
            left, width = _column(column, 150)
            axes = _axes(figure, (left, 54, width, len(arms) * _ROW), height)
            low, high = _limits(list(panel.levels.values()), [] if panel.target is None else [panel.target])
            axes.set_xlim(low, high)
            axes.set_ylim(len(arms), 0)
            axes.set_yticks([])
            axes.locator_params(axis="x", nbins=4)
            axes.set_title(cut(panel.title, 26), loc="left", fontsize=12)
            if panel.target is not None:
                axes.axvline(panel.target, color=colour("muted"), linewidth=1.2, linestyle=(0, (4, 3)))
            for row, (arm, place) in enumerate(arms.items()):
                if column == 0:
                    _label(axes, -150, row + 0.5, cut(arm, 20))
                if arm in panel.levels:
                    _level(axes, panel.levels[arm], row, place)
        return svg(figure, name=name, title=title, description=description)


def _level(axes: Axes, interval: Interval, row: int, place: int) -> None:
    mark = colour(f"arm-{place % ARMS}")
    low, high = axes.get_xlim()
    _whisker(axes, interval, row + 0.5, mark, (low, high))
    value = min(max(interval.value, low), high)
    axes.plot([value], [row + 0.5], _marker(place), color=mark, markersize=7, zorder=4)


def against_epsilon(
    heading: str,
    panels: Sequence[Panel],
    budgets: Sequence[tuple[str, Sequence[str]]],
    arms: Mapping[str, int],
    *,
    name: str,
    title: str,
    description: str,
) -> str:
    """A metric's groups side by side: levels of the arms of each budget (label, arms), smallest epsilon first. `arms`:
    the place of each, which has a colour and a mark.
    """
    if not any(panel.levels for panel in panels):
        return ""
    height = 262.0 + 20 * math.ceil(len(arms) / 4)
    with drawing(WIDTH, height) as figure:
        figure.text(0, 1 - 14 / height, cut(heading, 80), fontweight="bold")
        for column, panel in enumerate(panels):
            left, width = _column(column, 44, max(1, min(len(panels), COLUMNS)))
            axes = _axes(figure, (left, 54, width - 28, 140), height)
            axes.set_ylim(*_limits(list(panel.levels.values()), [] if panel.target is None else [panel.target]))
            axes.set_xlim(-0.6, len(budgets) - 0.4)
            axes.set_xticks(range(len(budgets)), [label for label, _ in budgets])
            axes.locator_params(axis="y", nbins=5)
            axes.set_title(cut(panel.title, 26), loc="left", fontsize=12)
            axes.set_xlabel("epsilon")
            if panel.target is not None:
                axes.axhline(panel.target, color=colour("muted"), linewidth=1.2, linestyle=(0, (4, 3)))
            for place, (_, members) in enumerate(budgets):
                shown = [arm for arm in members if arm in panel.levels]
                for index, arm in enumerate(shown):
                    across = place + min(0.16, 0.8 / len(shown)) * (index - (len(shown) - 1) / 2)
                    _upright(axes, panel.levels[arm], across, arms[arm])
        _legend(figure, arms, height)
        return svg(figure, name=name, title=title, description=description)


def _upright(axes: Axes, interval: Interval, across: float, place: int) -> None:
    mark = colour(f"arm-{place % ARMS}")
    low, high = axes.get_ylim()
    ends = [min(max(end, low), high) for end in (interval.low, interval.high)]
    axes.plot([across] * 2, ends, color=mark, linewidth=2)
    axes.plot([across], [interval.value], _marker(place), color=mark, markersize=7)


def _marker(place: int) -> str:
    """Another one for every arm of a colour, so that no two of 64 look alike."""
    return _MARKERS[(place + place // ARMS) % len(_MARKERS)]


def _legend(figure: Figure, arms: Mapping[str, int], height: float) -> None:
    from matplotlib.lines import Line2D

    for entry, (arm, place) in enumerate(arms.items()):
        left, up = 10 + 178 * (entry % 4), 10 + 20 * (math.ceil(len(arms) / 4) - 1 - entry // 4)
        figure.add_artist(
            Line2D(
                [left / WIDTH],
                [(up + 4) / height],
                marker=_marker(place),
                color=colour(f"arm-{place % ARMS}"),
                linestyle="",
                markersize=7,
            )
        )
        figure.text((left + 12) / WIDTH, up / height, cut(arm, 22))


def lines(series: Sequence[Line], *, name: str, title: str, description: str, axis: str) -> str:
    """Lines over steps, each with its name at its end."""
    drawn = [line for line in series if any(line.series)]
    if not drawn:
        return ""
    height = max(230.0, 90 + 16.0 * len(drawn))
    with drawing(WIDTH, height) as figure:
        axes = _axes(figure, (60, 32, 480, height - 78), height)
        for line in drawn:
            for points in line.series:
                axes.plot(
                    [point[0] for point in points],
                    [point[1] for point in points],
                    color=colour(f"arm-{line.place % ARMS}"),
                    linestyle=_STYLES[line.place % len(_STYLES)],
                    linewidth=1.4,
                )
        axes.set_xlabel("step")
        # Above the drawing, where a long name has room and nobody turns the head.
        figure.text(8 / WIDTH, 1 - 10 / height, cut(axis, 80), va="center")
        axes.autoscale_view()
        last = [statistics.fmean(points[-1][1] for points in line.series if points) for line in drawn]
        wanted = [axes.transData.transform((0, end))[1] for end in last]
        for line, up in zip(drawn, _apart(wanted, height - 28), strict=True):
            mark = colour(f"arm-{line.place % ARMS}")
            figure.text(552 / WIDTH, up / height, cut(line.label, 22), color=mark, va="center")
        return svg(figure, name=name, title=title, description=description)


def _apart(wanted: Sequence[float], top: float, gap: float = 16.0) -> list[float]:
    """Heights as near to the wanted ones as labels that do not overlap can have, none above `top`."""
    placed = list(wanted)
    upwards = sorted(range(len(wanted)), key=lambda index: wanted[index])
    floor, ceiling = -math.inf, top
    for index in upwards:
        placed[index] = max(placed[index], floor)
        floor = placed[index] + gap
    for index in reversed(upwards):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed


def _axes(figure: Figure, box: tuple[float, float, float, float], whole: float) -> Axes:
    """Axes with no frame but the line below. `box`: left, top, width and height in pixels; `whole`: of the figure."""
    left, top, width, height = box
    axes = figure.add_axes((left / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=4)
    return axes


def _column(column: int, margin: float, columns: int = COLUMNS) -> tuple[float, float]:
    """Left edge and width of a panel in pixels, without its gap to the next."""
    width = (WIDTH - margin) / columns
    return margin + column * width, width - 20


def _label(axes: Axes, across: float, down: float, text: str, weight: str = "normal") -> None:
    """Text at so many pixels from the left edge of the axes, at a row."""
    box = axes.get_position()
    axes.text(
        across / (box.width * WIDTH), down, text, transform=axes.get_yaxis_transform(), va="center", fontweight=weight
    )


def _whisker(axes: Axes, interval: Interval, middle: float, mark: str, limits: tuple[float, float]) -> None:
    """The interval; an arrow where it goes on."""
    ends = [min(max(end, limits[0]), limits[1]) for end in (interval.low, interval.high)]
    axes.plot(ends, [middle] * 2, color=mark, linewidth=2, solid_capstyle="butt", zorder=3)
    for end, goes_on, arrow in (
        (ends[0], interval.low < limits[0], "<"),
        (ends[1], interval.high > limits[1], ">"),
    ):
        if goes_on:
            axes.plot([end], [middle], arrow, color=mark, markersize=6, clip_on=False, zorder=3)


def _limits(intervals: Sequence[Interval], others: Iterable[float]) -> tuple[float, float]:
    """What an axis spans: everything but the far ends of intervals that are much wider than the others."""
    sides = [abs(one.value - end) for one in intervals for end in (one.low, one.high)]
    finite = [side for side in sides if math.isfinite(side)]
    reach = _FAR * statistics.median(finite) if finite else math.inf
    reach = reach or math.inf
    points = [other for other in others if math.isfinite(other)]
    for one in intervals:
        ends = (max(one.low, one.value - reach), min(one.high, one.value + reach))
        points += [one.value, *(end for end in ends if math.isfinite(end))]
    low, high = min(points, default=0.0), max(points, default=1.0)
    margin = 0.06 * (high - low) or max(abs(high) * 0.1, 0.5)
    return low - margin, high + margin
