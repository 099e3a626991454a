"""The report: one self-contained HTML page, from results.json and the notes that the stages left.

Parts that are missing (a stage not made yet, no STS file) are left out of the page.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import koembed
from koembed.config import Config
from koembed.evaluation.metrics import Interval
from koembed.report import plots
from koembed.report.plots import number
from koembed.storage import STAGE_FILE, read_json, write_whole
from koembed.training.gate import Scores

CHIPS = 60  # new tokens that are shown
LIBRARIES = ("torch", "transformers", "sentence-transformers")
KINDS = {"similar": "similar", "hard": "different, hard", "plain": "different, plain"}

Stage = Mapping[str, Any]
Notes = Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True)
class Metric:
    """Something that every stage is measured by.

    Attributes:
        path: where it lies in a stage's results.
        better: 1 if more is better, -1 if less is, 0 if neither is by itself.
        meaning: one line for a reader who does not know it.
        reference: a level that deserves a line in plots.
    """

    path: tuple[str, ...]
    name: str
    meaning: str
    better: int = 1
    reference: float | None = None

    def of(self, stage: Stage) -> Interval | None:
        """The stage's value, or None where it was not measured."""
        found: Any = stage
        for key in self.path:
            found = found.get(key, {})
        return Interval(**found) if found else None


SPEARMAN = "rank correlation of the cosines with people’s scores: 1 is the same order, 0 no relation"
DISCRIMINATION = Metric(
    ("discrimination",),
    "Discrimination",
    "mean cosine of similar pairs less that of different ones; depends on the model’s scale, so read it with AUC",
    reference=0.0,
)
AUC = Metric(
    ("auc",),
    "AUC",
    "chance that a similar pair gets a higher cosine than a different one; 0.5 is guessing",
    reference=0.5,
)
KO_EN = Metric(
    ("ko_en",),
    "Retrieval ko→en",
    "accuracy: share of Korean sentences whose own English translation is the nearest of all",
)
EN_KO = Metric(("en_ko",), "Retrieval en→ko", "the same from English to Korean")
DETAILS = (
    Metric(("auc_hard",), "AUC, hard", "against different pairs that share their words", reference=0.5),
    Metric(("auc_plain",), "AUC, plain", "against different pairs that share none", reference=0.5),
    Metric(("similar",), "Cosine, similar", "mean of the similar pairs; read with the next row", better=0),
    Metric(("different",), "Cosine, different", "mean of the different pairs, hard and plain", better=0),
    Metric(("probes", "all"), "Probes", "share of minimal sets told apart; by phenomenon below", reference=0.5),
)


def write_report(path: Path, config: Config, results: dict[str, Any]) -> None:
    """Write the page, whole or not at all.

    Args:
        config: of the run; its stage directories are read for the vocabulary and the gate, where they exist.
        results: content of results.json.

    Raises:
        InputError: nothing can be written there, or a stage's notes are damaged.
    """
    source = files("koembed.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    write_whole(path, environment.from_string(source).render(**_content(config, results)) + "\n")


def _content(config: Config, results: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows."""
    stages = results["stages"]
    notes = _read_notes(config, stages)
    left_out = {number for number, note in notes.items() if _is_left_out(note)}
    headline = _headline(stages)
    last = None if len(stages) == 1 else stages[-1]
    return {
        "base_name": config.model.base.removeprefix("pypi:"),
        "now": datetime.now().astimezone(),
        "verdict": _verdict(stages, headline),
        "sizes": {name: len(stages[0].get("cosines", {}).get(kind, ())) for kind, name in KINDS.items()},
        "resamples": results.get("settings", {}).get("evaluation", {}).get("bootstrap", config.evaluation.bootstrap),
        "columns": [(_short(stage), stage["name"], stage["stage"] in left_out) for stage in stages],
        "rows": [_row(metric, stages) for metric in (*headline, *_measured(DETAILS, stages))]
        + list(_costs(stages, notes)),
        "ladders": [_ladder(metric, stages, left_out) for metric in headline],
        "kinds": KINDS,
        "distributions": _distributions(stages),
        "probes": _probes(stages),
        "last": last and _long(last),
        "vocabulary": _vocabulary(config, stages),
        "gates": [gate for number in sorted(notes) for gate in _gates(notes[number], config)],
        "left_out": [_long(stage) for stage in stages if stage["stage"] in left_out],
        "english_floor": config.gate.english_floor,
        "settings": yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        "environment": _environment(),
    }


def _read_notes(config: Config, stages: Sequence[Stage]) -> Notes:
    """stage.json of the stages that were measured, by number."""
    numbers = [stage["stage"] for stage in stages if stage["stage"] >= 0]
    places = {number: config.stage(number) / STAGE_FILE for number in numbers}
    return {number: read_json(file) for number, file in places.items() if file.exists()}


def _is_left_out(note: Mapping[str, Any]) -> bool:
    """Whether the gate kept nothing of a stage."""
    gates = note.get("gate", {})
    return bool(gates) and not any(gate["alpha"] for gate in gates.values())


def _headline(stages: Sequence[Stage]) -> list[Metric]:
    """The metrics of the verdict and the ladder."""
    graded = [
        Metric(("sts", name), f"Spearman on {name}", "the same on this STS set", reference=0.0)
        for name in stages[0].get("sts", {})
    ]
    own = Metric(("spearman",), "Spearman on KoPairs", SPEARMAN, reference=0.0)
    return _measured((own, *graded, DISCRIMINATION, AUC, KO_EN, EN_KO), stages)


def _measured(metrics: Sequence[Metric], stages: Sequence[Stage]) -> list[Metric]:
    return [metric for metric in metrics if all(metric.of(stage) for stage in stages)]


def _short(stage: Stage) -> str:
    return "base" if stage["stage"] < 0 else f"stage {stage['stage']}"


def _long(stage: Stage) -> str:
    return "the untouched base" if stage["stage"] < 0 else f"stage {stage['stage']} ({stage['name']})"


def _interval(metric: Metric, stage: Stage) -> Interval:
    found = metric.of(stage)
    assert found is not None, metric.name
    return found


def _verdict(stages: Sequence[Stage], metrics: Sequence[Metric]) -> Markup:
    """One sentence: what the last stage gained over the base, what it lost, what cannot be told."""
    base, last = stages[0], stages[-1]
    if len(stages) == 1:
        values = (_value(metric.name, number(_interval(metric, base).value)) for metric in metrics)
        return Markup("So far only the untouched base is measured: {}.").format(
            _listed([*values, *_tokens(base, base)])
        )
    changes: dict[int, list[Markup]] = {1: [], -1: [], 0: []}
    for metric in metrics:
        before, after = _interval(metric, base), _interval(metric, last)
        changes[_outcome(before, after)].append(_value(metric.name, f"{number(before.value)} → {number(after.value)}"))
    openings = {1: "is better in", -1: "is worse in", 0: "shows no sure change in"}
    clauses = [Markup("{} {}").format(openings[sign], _listed(found)) for sign, found in changes.items() if found]
    clauses += [Markup("uses {}").format(value) for value in _tokens(base, last)]
    return Markup("Against the untouched base, {} {}.").format(_long(last), _listed(clauses, "; "))


def _outcome(before: Interval, after: Interval) -> int:
    """1 or -1 where the intervals do not even touch, else 0."""
    return int(after.low > before.high) - int(after.high < before.low)


def _value(name: str, value: str) -> Markup:
    # A small letter inside the sentence, except in names that are capitals (AUC).
    name = name if name[1].isupper() or name.startswith("Spearman") else name[0].lower() + name[1:]
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


def _row(metric: Metric, stages: Sequence[Stage]) -> dict[str, Any]:
    """A row of the table; a cell is marked where its interval lies wholly to one side of the base's."""
    before = _interval(metric, stages[0])
    intervals = [_interval(metric, stage) for stage in stages]
    cells = [
        {
            "value": number(interval.value),
            "spread": f"{number(interval.low)} to {number(interval.high)}",
            "mark": {1: "better", -1: "worse", 0: ""}[metric.better * _outcome(before, interval)],
        }
        for interval in intervals
    ]
    return {
        "name": metric.name,
        "arrow": {1: "↑", -1: "↓", 0: ""}[metric.better],
        "meaning": metric.meaning,
        "cells": cells,
    }


def _costs(stages: Sequence[Stage], notes: Notes) -> Iterator[dict[str, Any]]:
    """Rows without intervals: tokens a word, time."""
    if all("tokens_per_word" in stage for stage in stages):
        meaning = "fertility on KoPairs test: what a text costs to encode and store"
        yield _plain("Tokens a word", "↓", meaning, [number(stage["tokens_per_word"], 2) for stage in stages])
    if notes:
        times = [_duration(notes.get(stage["stage"], {}).get("seconds")) for stage in stages]
        yield _plain("Time to make", "", "learning, training and gate together", times)


def _plain(name: str, arrow: str, meaning: str, values: Sequence[str]) -> dict[str, Any]:
    cells = [{"value": value, "spread": "", "mark": ""} for value in values]
    return {"name": name, "arrow": arrow, "meaning": meaning, "cells": cells}


def _duration(seconds: float | None) -> str:
    """
    >>> _duration(97.3), _duration(7260), _duration(None)
    ('97 s', '2.0 h', '–')
    """
    if seconds is None:
        return "–"
    unit, size = next(
        (unit, size) for unit, size in (("h", 3600), ("min", 60), ("s", 1)) if seconds >= 2 * size or size == 1
    )
    return f"{seconds / size:.{0 if unit == 's' else 1}f} {unit}"


def _ladder(metric: Metric, stages: Sequence[Stage], left_out: set[int]) -> dict[str, Any]:
    points = [
        plots.Point(
            "base" if stage["stage"] < 0 else str(stage["stage"]), _interval(metric, stage), stage["stage"] in left_out
        )
        for stage in stages
    ]
    label = f"{metric.name}: " + ", ".join(f"{point.name} {number(point.interval.value)}" for point in points)
    return {"name": metric.name, "plot": plots.ladder(label, points, metric.reference)}


def _distributions(stages: Sequence[Stage]) -> list[dict[str, Any]]:
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
        label = f"Cosines of similar, hard and plain different pairs, {_long(stage)}"
        panels.append(
            {
                "stage": _short(stage),
                "name": stage["name"] if stage["stage"] >= 0 else "",
                "facts": [
                    f"{metric.name} {number(found.value)}"
                    for metric in (DISCRIMINATION, AUC)
                    if (found := metric.of(stage))
                ],
                "same": _short(drawn) if same else "",
                "plot": "" if same else plots.densities(label, cosines, axis, tallest),
            }
        )
    return panels


def _probes(stages: Sequence[Stage]) -> Markup | str:
    """All phenomena, the whole first, then the last stage's strongest to its weakest."""
    base = stages[0].get("probes", {})
    last = stages[-1].get("probes", {}) if len(stages) > 1 else {}
    shares = last or base
    names = sorted((name for name in base if name in shares), key=lambda name: (name != "all", -shares[name]["value"]))
    rows = [
        (name.replace("_", " "), Interval(**base[name]), Interval(**last[name]) if last else None) for name in names
    ]
    return plots.probes("Share of minimal sets told apart, by phenomenon", rows) if rows else ""


def _vocabulary(config: Config, stages: Sequence[Stage]) -> dict[str, Any] | None:
    file = config.stage(0) / "expansion.json"
    if len(stages) == 1 or not file.exists():
        return None
    expansion = read_json(file)
    tokens = expansion["tokens"][:CHIPS]
    fertility, unknown = expansion["fertility"], expansion["unknown"]
    saved = 1 - fertility["after"] / fertility["before"]
    return {
        "facts": [
            ("New tokens", f"{expansion['new_tokens']:,}", f"first rows: {expansion['initializer']}"),
            ("Tokens a word", _change(fertility, 2), f"{saved:.0%} fewer"),
            ("Unknown tokens a word", _change(unknown, 3), "what the model cannot read"),
            ("Unreachable tokens", f"{expansion['unreachable']:.2%}", "new tokens that no text produces"),
        ],
        # "##" (WordPiece) marks a piece that continues a word.
        "chips": [("##" if token.startswith("##") else "", token.removeprefix("##")) for token in tokens],
        "total": expansion["new_tokens"],
    }


def _change(values: Mapping[str, float], digits: int) -> str:
    return f"{number(values['before'], digits)} → {number(values['after'], digits)}"


def _gates(note: Mapping[str, Any], config: Config) -> Iterator[dict[str, Any]]:
    """The gate's decisions of a stage, each with its curve and its reason in words."""
    for name, verdict in note.get("gate", {}).items():
        purpose, alpha, curve = verdict["purpose"], verdict["alpha"], verdict["curve"]
        scores = [Scores(**{field.name: point[field.name] for field in fields(Scores)}) for point in curve]
        refusal = _refusal(scores[0], config.gate.english_floor, purpose)
        trials = [
            plots.Trial(point["alpha"], score.quality(purpose), refusal(score))
            for point, score in zip(curve, scores, strict=True)
        ]
        title = f"Stage {note['stage']}, {name}"
        yield {
            "title": title,
            "quality": "retrieval accuracy"
            if purpose == "retrieval"
            else "mean of Spearman, AUC and retrieval accuracy",
            "left_out": not alpha,
            "alpha": f"{alpha:g}",
            "reason": _reason(trials, alpha),
            "plot": plots.gate(f"{title}: quality against α, chosen {alpha:g}", trials, alpha),
            "table": [
                (f"{trial.alpha:g}", number(trial.quality), number(score.discrimination), number(score.english))
                for trial, score in zip(trials, scores, strict=True)
            ],
        }


def _refusal(before: Scores, english_floor: float, purpose: str) -> Callable[[Scores], tuple[str, ...]]:
    """Names the rules of ``koembed.training.gate.choose`` that a strength breaks."""
    floor = min(english_floor, before.english)

    def broken(score: Scores) -> tuple[str, ...]:
        rules = {
            "discrimination fell": purpose != "retrieval" and score.discrimination < before.discrimination,
            "Spearman fell": purpose != "retrieval" and score.spearman < before.spearman,
            f"English fell below {floor:.2f}": score.english < floor,
        }
        return tuple(rule for rule, is_broken in rules.items() if is_broken)

    return broken


def _reason(trials: Sequence[plots.Trial], chosen: float) -> str:
    """Why this strength and no other: the rules that the others broke, or that they were no better."""
    tried = [trial for trial in trials if trial.alpha]
    alphas: dict[str, list[str]] = {}
    for trial in tried:
        for rule in trial.refused:
            alphas.setdefault(rule, []).append(f"{trial.alpha:g}")
    reasons = [
        f"{rule} at every α above 0" if len(where) == len(tried) else f"{rule} at α {', '.join(where)}"
        for rule, where in alphas.items()
    ]
    if any(not trial.refused for trial in tried if trial.alpha != chosen):
        reasons.append("the other strengths were no better" if alphas else "no other strength was better")
    return "; ".join(reasons)


def _environment() -> dict[str, str]:
    """The machine and the versions that the page was written with."""
    return {
        "koembed": koembed.__version__,
        **{name: version(name) for name in LIBRARIES},
        "Python": platform.python_version(),
        "CPU": _cpu(),
        "System": f"{platform.system()} {platform.machine()}",
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} threads)" if names else platform.processor() or platform.machine()
