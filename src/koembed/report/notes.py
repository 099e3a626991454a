"""The parts of the report that come from the stages' own notes: the vocabulary, the gate's decisions, the time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from koembed.config import Config
from koembed.report import plots
from koembed.report.metrics import Stage
from koembed.report.plots import number
from koembed.storage import STAGE_FILE, read_json
from koembed.training.gate import Scores

CHIPS = 60  # new tokens that are shown
QUALITY = {
    "both": "mean of Spearman, AUC and retrieval accuracy",
    "similarity": "mean of Spearman and AUC",
    "retrieval": "nDCG@10 of held-out passages, or retrieval accuracy where there are none",
}

Notes = Mapping[int, Mapping[str, Any]]
Fact = tuple[str, str, str]  # name, value, explanation


def read_notes(config: Config, stages: Sequence[Stage]) -> Notes:
    """stage.json of the stages that were measured, by number."""
    numbers = [stage["stage"] for stage in stages if stage["stage"] >= 0]
    places = {number: config.stage(number) / STAGE_FILE for number in numbers}
    return {number: read_json(file) for number, file in places.items() if file.exists()}


def is_left_out(note: Mapping[str, Any]) -> bool:
    """Whether the gate kept nothing of a stage."""
    gates = note.get("gate", {})
    return bool(gates) and not any(gate["alpha"] for gate in gates.values())


def duration(seconds: float | None) -> str:
    """
    >>> duration(97.3), duration(7260), duration(None)
    ('97 s', '2.0 h', '–')
    """
    if seconds is None:
        return "–"
    unit, size = next(
        (unit, size) for unit, size in (("h", 3600), ("min", 60), ("s", 1)) if seconds >= 2 * size or size == 1
    )
    return f"{seconds / size:.{0 if unit == 's' else 1}f} {unit}"


def vocabulary(file: Path) -> dict[str, Any] | None:
    """What stage 0 did to the vocabulary, from its expansion.json."""
    if not file.exists():
        return None
    expansion = read_json(file)
    tokens = expansion["tokens"][:CHIPS]
    return {
        "facts": [*_sizes(expansion), *_readings(expansion)],
        "curve": _compression(expansion.get("curve")),
        # "##" (WordPiece) marks a piece that continues a word.
        "chips": [("##" if token.startswith("##") else "", token.removeprefix("##")) for token in tokens],
        "total": expansion["new_tokens"],
    }


def _sizes(expansion: Mapping[str, Any]) -> Iterator[Fact]:
    """Tokens, rows and parameters, as far as they were noted."""
    scaffolding = expansion.get("scaffolding", 0)
    parts = f"; {scaffolding:,} only build longer ones" if scaffolding else ""
    yield "New tokens", f"{expansion['new_tokens']:,}", f"first rows: {expansion['initializer']}{parts}"
    if expansion.get("trimmed_tokens"):
        yield "Dropped tokens", f"{expansion['trimmed_tokens']:,}", "of the base, unused in the kept languages"
    if "rows" in expansion:
        rows = expansion["rows"]
        yield "Rows", f"{rows['before']:,} → {rows['after']:,}", "of the embedding matrix"
    if "parameters" in expansion:
        sizes = {side: count / 1e6 for side, count in expansion["parameters"].items()}
        change = sizes["after"] / sizes["before"] - 1
        yield "Parameters", f"{_change(sizes, 1)} M", f"{number(100 * change, 0)}%" if change < 0 else f"+{change:.0%}"


def _readings(expansion: Mapping[str, Any]) -> Iterator[Fact]:
    """How the new vocabulary reads Korean."""
    fertility = expansion["fertility"]
    saved = 1 - fertility["after"] / fertility["before"]
    yield "Tokens a word", _change(fertility, 2), f"{saved:.0%} fewer"
    yield "Unknown tokens a word", _change(expansion["unknown"], 3), "what the model cannot read"
    yield "Unreachable tokens", f"{expansion['unreachable']:.2%}", "new tokens that no text produces"


def _change(values: Mapping[str, float], digits: int) -> str:
    return f"{number(values['before'], digits)} → {number(values['after'], digits)}"


def _compression(curve: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The curve that ``vocab.size: auto`` chose on, where it did; one without a knee shows nothing."""
    if not curve or not curve["knee"]:
        return None
    left = [tokens / curve["tokens"][0] for tokens in curve["tokens"]]
    share = left[curve["sizes"].index(curve["knee"])]
    label = f"Tokens of held-out text against tokens learned; {share:.1%} are left at {curve['knee']:,}, the knee"
    return {
        "knee": f"{curve['knee']:,}",
        "share": f"{share:.1%}",
        "plot": plots.compression(label, curve["sizes"], left, curve["knee"]),
    }


def gates(note: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The gate's decisions of a stage, each with its curve and its reason in words."""
    for name, verdict in note.get("gate", {}).items():
        purpose, alpha, curve = verdict["purpose"], verdict["alpha"], verdict["curve"]
        scores = [Scores(**{field.name: point[field.name] for field in fields(Scores)}) for point in curve]
        trials = [
            plots.Trial(point["alpha"], score.quality(purpose), point.get("refused"))
            for point, score in zip(curve, scores, strict=True)
        ]
        title = f"Stage {note['stage']}, {name}"
        yield {
            "title": title,
            "quality": QUALITY[purpose],
            "left_out": not alpha,
            "alpha": f"{alpha:g}",
            "reason": _reason(trials, alpha) if "refused" in curve[0] else "",  # earlier versions did not note it
            "plot": plots.gate(f"{title}: quality against α, chosen {alpha:g}", trials, alpha),
            "table": [
                (f"{trial.alpha:g}", number(trial.quality), number(score.discrimination), number(score.english))
                for trial, score in zip(trials, scores, strict=True)
            ],
        }


def _reason(trials: Sequence[plots.Trial], chosen: float) -> str:
    """Why this strength and no other: what the others were refused for, or that they were no better."""
    tried = [trial for trial in trials if trial.alpha]
    alphas: dict[str, list[str]] = {}
    for trial in tried:
        if trial.refused:
            alphas.setdefault(trial.refused, []).append(f"{trial.alpha:g}")
    reasons = [
        f"{loss} at every α above 0" if len(where) == len(tried) else f"{loss} at α {', '.join(where)}"
        for loss, where in alphas.items()
    ]
    if any(not trial.refused for trial in tried if trial.alpha != chosen):
        reasons.append("the other strengths were no better" if alphas else "no other strength was better")
    return "; ".join(reasons)
