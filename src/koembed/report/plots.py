"""The report's plots as inline SVG, written by hand.

Horizontal places are percentages and vertical ones pixels, so a plot fills whatever width it is given while its text
keeps its size. Curves, which SVG cannot give in percentages, are stretched in a nested ``<svg>``. Colours come from
the page's style sheet by class name, so light, dark and print share one drawing. Axis labels hang over the left edge;
the page leaves room for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from markupsafe import Markup

from koembed.metrics import Interval
from koembed.report.metrics import SIGNS, sign

STEPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # distances between ticks that read well


@dataclass(frozen=True)
class Axis:
    """A linear axis with its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Place of a value, 0 at the low end to 1 at the high end."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Point:
    """A value on the ladder; ``hollow`` where the stage left the model as it was."""

    name: str
    interval: Interval
    hollow: bool = False


@dataclass(frozen=True)
class Trial:
    """A strength that the gate tried; ``refused`` says why it could not be taken, None where it could."""

    alpha: float
    quality: float
    refused: str | None


def axis_over(values: Iterable[float], least_span: float = 0.1, most_ticks: int = 6) -> Axis:
    """An axis with round ends around all values, never shorter than ``least_span`` so that noise stays small.

    >>> axis_over([0.31, 0.72]).ticks
    (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    """
    kept = list(values)
    low, high = min(kept), max(kept)
    spare = max(0.0, least_span - (high - low)) / 2
    low, high = low - spare, high + spare
    step = next((step for step in STEPS if _ticks_between(low, high, step) <= most_ticks), STEPS[-1])
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(number * step, 4) for number in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def _ticks_between(low: float, high: float, step: float) -> int:
    return math.ceil(high / step - 1e-9) - math.floor(low / step + 1e-9) + 1


def number(value: float, digits: int = 3) -> str:
    """A value as the page prints it, with a true minus sign and none before zero.

    >>> number(-0.0834), number(-0.0001)
    ('−0.083', '0.000')
    """
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """A change as the page prints it.

    >>> signed(0.0834), signed(-0.0834), signed(0.0001)
    ('+0.083', '−0.083', '0.000')
    """
    text = number(value, digits)
    return f"+{text}" if float(text.replace("−", "-")) > 0 else text


def ladder(label: str, points: Sequence[Point], reference: float | None = None) -> Markup:
    """A value per stage with its interval; values are written above, stage names below.

    Args:
        label: what the plot shows, for readers who do not see it.
        reference: a level worth a line of its own (chance, zero), drawn where the axis reaches it.
    """
    top, bottom = 22.0, 138.0
    axis = axis_over(value for point in points for value in (point.interval.low, point.interval.high))
    svg = _canvas(label, 164)
    _y_axis(svg, axis, top, bottom)
    if reference is not None and axis.low <= reference <= axis.high:
        _line(svg, "reference", 0, _y(axis, reference, top, bottom), 100, _y(axis, reference, top, bottom))
    places = [100 * (index + 0.5) / len(points) for index in range(len(points))]
    heights = [_y(axis, point.interval.value, top, bottom) for point in points]
    for index in range(1, len(points)):
        _line(svg, "path", places[index - 1], heights[index - 1], places[index], heights[index])
    for index, (point, x, y) in enumerate(zip(points, places, heights, strict=True)):
        mark = _marked(svg, point.name, point.interval)
        ends = [_y(axis, value, top, bottom) for value in (point.interval.high, point.interval.low)]
        kind = "base" if index == 0 else "ours"
        _line(mark, f"bar {kind}", x, ends[0], x, ends[1])
        _dot(mark, f"{kind} hollow" if point.hollow else kind, x, y)
        _text(mark, number(point.interval.value), x, min(ends[0], y) - 7, "value")
        _text(svg, point.name, x, bottom + 20, "tick")
    return _drawn(svg)


def gains(label: str, rows: Sequence[tuple[str, Interval]]) -> Markup:
    """Changes by name with their intervals, around zero; coloured by whether the whole interval is on one side."""
    line_height, top = 27, 22
    bottom = top + line_height * len(rows)
    axis = axis_over([0.0, *(value for _, gain in rows for value in (gain.low, gain.high))], most_ticks=5)
    svg = _canvas(label, bottom)
    for tick in axis.ticks:
        _line(svg, "grid" if tick else "reference", 100 * axis.share(tick), top - 6, 100 * axis.share(tick), bottom)
        _text(svg, signed(tick, 2) if tick else "0", 100 * axis.share(tick), top - 12, "tick")
    for index, (name, gain) in enumerate(rows):
        y = top + line_height * (index + 0.5)
        outcome = sign(gain)
        kind = {1: "gained", -1: "lost", 0: "unsure"}[outcome]
        mark = _marked(svg, name, gain)
        _text(svg, name, 0, y + 4, "name", dx=-14)
        _line(mark, f"bar {kind}", 100 * axis.share(gain.low), y, 100 * axis.share(gain.high), y)
        _dot(mark, kind, 100 * axis.share(gain.value), y)
        _text(svg, f"{SIGNS[outcome]} {signed(gain.value)}", 100, y + 4, f"change {kind}", dx=14)
    return _drawn(svg)


def densities(label: str, cosines: Mapping[str, Sequence[float]], axis: Axis, tallest: float) -> Markup:
    """Smooth distributions of cosines, a dot at each mean.

    Args:
        cosines: kind -> cosines; the kind is the CSS class.
        axis: shared by all panels.
        tallest: density that fills the height; shared too, see :func:`peak`.
    """
    top, bottom = 4.0, 108.0
    svg = _canvas(label, 132)
    for tick in axis.ticks:
        _line(svg, "grid", 100 * axis.share(tick), top, 100 * axis.share(tick), bottom)
        _text(svg, number(tick, 1), 100 * axis.share(tick), bottom + 20, "tick")
    stretched = SubElement(svg, "svg", {"y": f"{top:g}", "width": "100%", "height": f"{bottom - top:g}"})
    stretched.attrib.update({"viewBox": "0 0 100 100", "preserveAspectRatio": "none", "overflow": "visible"})
    for kind, values in cosines.items():
        places, heights = density(values, axis)
        steps = " ".join(
            f"{100 * axis.share(place):.1f},{100 - 100 * height / tallest:.1f}"
            for place, height in zip(places, heights, strict=True)
        )
        SubElement(stretched, "polygon", {"class": f"hill {kind}", "points": f"0,100 {steps} 100,100"})
        outline = {"class": f"outline {kind}", "points": steps, "vector-effect": "non-scaling-stroke"}
        SubElement(stretched, "polyline", outline)
    _line(svg, "axis", 0, bottom, 100, bottom)
    for kind, values in cosines.items():
        mean = float(np.mean(values))
        dot = _dot(svg, kind, 100 * axis.share(mean), bottom, 4)
        SubElement(dot, "title").text = f"{kind}: mean {number(mean)} of {len(values)} pairs"
    return _drawn(svg)


def density(values: Sequence[float], axis: Axis) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian kernel density of cosines over the axis; places and heights, float64 [161] both.

    Bandwidth by Silverman's rule; what would spill over 1, where cosines end, is folded back.
    """
    sample = np.asarray(values, np.float64)
    width = max(0.9 * float(sample.std()) * len(sample) ** -0.2, 0.01)
    places = np.linspace(axis.low, axis.high, 161)
    distances = np.stack([places[:, None] - sample, 2 - places[:, None] - sample])
    kernels = np.exp(-0.5 * (distances / width) ** 2).sum(0)
    return places, kernels.mean(1) / (width * math.sqrt(2 * math.pi))


def peak(groups: Iterable[Sequence[float]], axis: Axis) -> float:
    """The highest density of all groups."""
    return max(float(density(values, axis)[1].max()) for values in groups)


def probes(label: str, rows: Sequence[tuple[str, Interval, Interval | None]]) -> Markup:
    """Shares between 0 and 1 by name: the base's (grey) and, where there is one, the last stage's, with intervals."""
    line_height, top = 27, 26
    svg = _canvas(label, top + line_height * len(rows))
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        kind = "reference" if tick == 0.5 else "grid"
        _line(svg, kind, 100 * tick, top - 6, 100 * tick, top + line_height * len(rows))
        _text(svg, f"{tick:g}", 100 * tick, top - 12, "tick")
    for index, (name, base, last) in enumerate(rows):
        y = top + line_height * (index + 0.5)
        _text(svg, name, 0, y + 4, "name", dx=-14)
        for kind, interval, shift in (("base", base, 4.5), ("ours", last, -4.5)):
            if interval is not None:
                mark = _marked(svg, f"{name}, {'base' if kind == 'base' else 'last stage'}", interval)
                _line(mark, f"bar {kind}", 100 * interval.low, y + shift, 100 * interval.high, y + shift)
                _dot(mark, kind, 100 * interval.value, y + shift)
        change = number(base.value, 2) if last is None else f"{number(base.value, 2)} → {number(last.value, 2)}"
        _text(svg, change, 100, y + 4, "change", dx=14)
    return _drawn(svg)


def gate(label: str, trials: Sequence[Trial], chosen: float) -> Markup:
    """Quality against strength; refused strengths are hollow, the chosen one is ringed and named."""
    top, bottom = 24.0, 128.0
    axis = axis_over((trial.quality for trial in trials), least_span=0.05)
    svg = _canvas(label, 154)
    _y_axis(svg, axis, top, bottom)
    heights = [_y(axis, trial.quality, top, bottom) for trial in trials]
    places = [_strength(trial.alpha) for trial in trials]
    for index in range(1, len(trials)):
        _line(svg, "path", places[index - 1], heights[index - 1], places[index], heights[index])
    for trial, x, y in zip(trials, places, heights, strict=True):
        mark = SubElement(svg, "g")
        SubElement(mark, "title").text = f"α {trial.alpha:g}: {number(trial.quality)}; {trial.refused or 'admitted'}"
        if trial.alpha == chosen:
            _line(mark, "chosen", x, y, x, bottom)
            _dot(mark, "ring", x, y, 8)
            _text(mark, f"α {trial.alpha:g}", x, y - 13, "value")
        _dot(mark, "ours hollow" if trial.refused else "ours", x, y)
    for alpha in sorted({0.0, 0.5, 1.0, chosen}):
        if alpha == chosen or abs(alpha - chosen) > 0.15:
            _text(svg, f"{alpha:g}", _strength(alpha), bottom + 20, "tick")
    return _drawn(svg)


def compression(label: str, sizes: Sequence[int], left: Sequence[float], knee: int) -> Markup:
    """Share of the tokens that are left against tokens learned, with the line that the knee lies farthest below."""
    top, bottom = 12.0, 148.0
    axis, across = axis_over(left), Axis(sizes[0], sizes[-1], (sizes[0], knee, sizes[-1]))
    svg = _canvas(label, bottom + 26)
    _y_axis(svg, axis, top, bottom)
    places = [100 * across.share(size) for size in sizes]
    heights = [_y(axis, share, top, bottom) for share in left]
    _line(svg, "reference", places[0], heights[0], places[-1], heights[-1])
    for index in range(1, len(sizes)):
        _line(svg, "curve", places[index - 1], heights[index - 1], places[index], heights[index])
    x, y = (side[list(sizes).index(knee)] for side in (places, heights))
    _line(svg, "chosen", x, y, x, bottom)
    _dot(svg, "ours", x, y)
    _dot(svg, "ring", x, y, 8)
    for tick in across.ticks:
        if tick == knee or abs(tick - knee) > 0.15 * sizes[-1]:
            _text(svg, f"{tick:,}", 100 * across.share(tick), bottom + 20, "value" if tick == knee else "tick")
    return _drawn(svg)


def _strength(alpha: float) -> float:
    return 6 + 88 * alpha


def _canvas(label: str, height: float) -> Element:
    attributes = {"role": "img", "aria-label": label, "width": "100%", "height": f"{height:g}", "overflow": "visible"}
    return Element("svg", attributes)


def _drawn(svg: Element) -> Markup:
    return Markup(tostring(svg, encoding="unicode"))


def _y(axis: Axis, value: float, top: float, bottom: float) -> float:
    return bottom - (bottom - top) * axis.share(value)


def _y_axis(svg: Element, axis: Axis, top: float, bottom: float) -> None:
    for tick in axis.ticks:
        y = _y(axis, tick, top, bottom)
        _line(svg, "axis" if tick == axis.low else "grid", 0, y, 100, y)
        _text(svg, number(tick, 2), 0, y + 4, "level", dx=-8)


def _marked(svg: Element, name: str, interval: Interval) -> Element:
    """A group whose exact values show when pointed at."""
    group = SubElement(svg, "g")
    spread = f"{number(interval.low)} to {number(interval.high)}"
    SubElement(group, "title").text = f"{name}: {number(interval.value)} ({spread})"
    return group


def _line(parent: Element, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
    ends = {"x1": f"{x1:.2f}%", "y1": f"{y1:.1f}", "x2": f"{x2:.2f}%", "y2": f"{y2:.1f}"}
    SubElement(parent, "line", {"class": kind, **ends})


def _dot(parent: Element, kind: str, x: float, y: float, radius: float = 4.5) -> Element:
    place = {"cx": f"{x:.2f}%", "cy": f"{y:.1f}", "r": f"{radius:g}"}
    return SubElement(parent, "circle", {"class": f"dot {kind}", **place})


def _text(parent: Element, text: str, x: float, y: float, kind: str, dx: float = 0) -> None:
    place = {"x": f"{x:.2f}%", "y": f"{y:.1f}", "dx": f"{dx:g}"}
    SubElement(parent, "text", {"class": kind, **place}).text = text
