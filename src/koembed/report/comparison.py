"""The parts of the report that set the stages side by side, from results.json alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from markupsafe import Markup

from koembed.metrics import Interval
from koembed.report import plots
from koembed.report.metrics import AUC, DISCRIMINATION, Metric, Stage, long, measured, short
from koembed.report.plots import number

KINDS = {"similar": "similar", "hard": "different, hard", "plain": "different, plain"}
OPENINGS = {1: "is better in", -1: "is worse in", 0: "shows no sure change in"}


def verdict(stages: Sequence[Stage], metrics: Sequence[Metric]) -> Markup:
    """One sentence: what the last stage gained over the base, what it lost, what cannot be told."""
    base, last = stages[0], stages[-1]
    if len(stages) == 1:
        values = (_value(metric, number(measured(metric, base).value)) for metric in metrics)
        return Markup("So far only the untouched base is measured: {}.").format(
            _listed([*values, *_tokens(base, base)])
        )
    changes: dict[int, list[Markup]] = {sign: [] for sign in OPENINGS}
    for metric in metrics:
        before, after = (number(measured(metric, stage).value) for stage in (base, last))
        changes[metric.change(base, last)].append(_value(metric, f"{before} → {after}"))
    clauses = [Markup("{} {}").format(OPENINGS[sign], _listed(found)) for sign, found in changes.items() if found]
    clauses += [Markup("uses {}").format(value) for value in _tokens(base, last)]
    return Markup("Against the untouched base, {} {}.").format(long(last), _listed(clauses, "; "))


def _value(metric: Metric, value: str) -> Markup:
    # A small letter inside the sentence, except in names that keep their capitals.
    keeps = metric.name.startswith(("Spearman", "AUC", "nDCG"))
    name = metric.name if keeps else metric.name[0].lower() + metric.name[1:]
    return Markup("{} (<b>{}</b>)").format(name, value)


def _tokens(base: Stage, last: Stage) -> Iterator[Markup]:
    if "tokens_per_word" in base and "tokens_per_word" in last:
        pair = [number(stage["tokens_per_word"], 2) for stage in (base, last)]
        yield Markup("<b>{}</b> tokens a word").format(pair[0] if base is last else " → ".join(pair))


def _listed(parts: Sequence[Markup], comma: str = ", ") -> Markup:
    """Joined by commas, the last by "and"."""
    if len(parts) < 2:
        return Markup("").join(parts)
    return Markup("{}{}and {}").format(Markup(comma).join(parts[:-1]), " " if comma == ", " else comma, parts[-1])


def row(metric: Metric, stages: Sequence[Stage]) -> dict[str, Any]:
    """A row of the table; a cell is marked where it is better or worse than the base's for sure."""
    marks = {1: "better", -1: "worse", 0: ""}
    cells = []
    for stage in stages:
        interval = measured(metric, stage)
        mark = marks[metric.better * metric.change(stages[0], stage)]
        spread = f"{number(interval.low)} to {number(interval.high)}"
        cells.append({"value": number(interval.value), "spread": spread, "mark": mark})
    arrow = {1: "↑", -1: "↓", 0: ""}[metric.better]
    return {"name": metric.name, "arrow": arrow, "meaning": metric.meaning, "cells": cells}


def plain_row(name: str, arrow: str, meaning: str, values: Sequence[str]) -> dict[str, Any]:
    """A row of values that have no interval."""
    cells = [{"value": value, "spread": "", "mark": ""} for value in values]
    return {"name": name, "arrow": arrow, "meaning": meaning, "cells": cells}


def ladder(metric: Metric, stages: Sequence[Stage], left_out: Collection[int]) -> dict[str, Any]:
    """A panel with the metric of every stage; stages in ``left_out`` are drawn hollow."""
    points = [
        plots.Point(
            "base" if stage["stage"] < 0 else str(stage["stage"]), measured(metric, stage), stage["stage"] in left_out
        )
        for stage in stages
    ]
    label = f"{metric.name}: " + ", ".join(f"{point.name} {number(point.interval.value)}" for point in points)
    return {"name": metric.name, "plot": plots.ladder(label, points, metric.reference)}


def steps(metrics: Sequence[Metric], stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """A panel for each metric that stages were compared by: what each gained on the stage before."""
    panels = []
    for metric in metrics:
        found = {f"{stage['stage']} {stage['name']}": metric.gain(stage) for stage in stages[1:]}
        gains = [(name, gain) for name, gain in found.items() if gain]
        if gains:
            label = f"{metric.name}, gains: " + ", ".join(f"{name} {number(gain.value)}" for name, gain in gains)
            panels.append({"name": metric.name, "plot": plots.gains(label, gains)})
    return panels


def distributions(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """A panel a stage; one whose cosines are those of the stage before is named without a second drawing."""
    shown = [stage for stage in stages if all(stage.get("cosines", {}).get(kind) for kind in KINDS)]
    groups = [stage["cosines"][kind] for stage in shown for kind in KINDS]
    if not groups:
        return []
    axis = plots.axis_over(
        (value for group in groups for value in (min(group), min(max(group), 1.0))), least_span=0.5, most_ticks=11
    )
    tallest = plots.peak(groups, axis)
    panels: list[dict[str, Any]] = []
    drawn = shown[0]
    for stage in shown:
        same = stage is not drawn and stage["cosines"] == drawn["cosines"]
        drawn = drawn if same else stage
        cosines = {kind: stage["cosines"][kind] for kind in KINDS}
        label = f"Cosines of similar, hard and plain different pairs, {long(stage)}"
        facts = [(metric.name, metric.of(stage)) for metric in (DISCRIMINATION, AUC)]
        panels.append(
            {
                "stage": short(stage),
                "name": stage["name"] if stage["stage"] >= 0 else "",
                "facts": [f"{name} {number(found.value)}" for name, found in facts if found],
                "same": short(drawn) if same else "",
                "plot": "" if same else plots.densities(label, cosines, axis, tallest),
            }
        )
    return panels


def probes(stages: Sequence[Stage]) -> Markup | str:
    """All phenomena, the whole first, then the last stage's strongest to its weakest."""
    base = stages[0].get("probes", {})
    last = stages[-1].get("probes", {}) if len(stages) > 1 else {}
    shares = last or base
    names = sorted((name for name in base if name in shares), key=lambda name: (name != "all", -shares[name]["value"]))
    rows = [
        (name.replace("_", " "), Interval(**base[name]), Interval(**last[name]) if last else None) for name in names
    ]
    return plots.probes("Share of minimal sets told apart, by phenomenon", rows) if rows else ""
