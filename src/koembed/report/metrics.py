"""What the report shows of every stage, and where it lies in results.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from koembed.metrics import Interval

Stage = Mapping[str, Any]  # one of results.json
SIGNS = {1: "▲", -1: "▼", 0: "≈"}


@dataclass(frozen=True)
class Metric:
    """Something that every stage is measured by.

    Attributes:
        path: where it lies in a stage's results, and its gain below "gain".
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
        return _at(stage, self.path)

    def gain(self, stage: Stage) -> Interval | None:
        """What the stage gained on the one before, both on the same resampled pairs; None where it was not compared."""
        return _at(stage.get("gain", {}), self.path)

    def change(self, base: Stage, after: Stage) -> int:
        """1 or -1 where a value is above or below the base's for sure, else 0.

        Told by both on the same resampled pairs, or where these were not compared by intervals that do not even touch.
        """
        if gain := _at(after.get("gain_on_base", {}), self.path):
            return sign(gain)
        first, second = measured(self, base), measured(self, after)
        return int(second.low > first.high) - int(second.high < first.low)


def _at(place: Any, path: Iterable[str]) -> Interval | None:
    for key in path:
        place = place.get(key, {})
    return Interval(**place) if place else None


SPEARMAN = Metric(
    ("spearman",),
    "Spearman on KoPairs",
    "rank correlation of the cosines with the pairs’ scores: 1 is the same order, 0 no relation",
    reference=0.0,
)
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
    "accuracy: share of Korean sentences whose own English translation is the nearest of all, with the retrieval "
    "adapter where there is one",
)
EN_KO = Metric(("en_ko",), "Retrieval en→ko", "the same from English to Korean")
FINDING = {"ko_en", "en_ko", "passages"}  # measured with the retrieval adapter, where a stage has one
DETAILS = (
    Metric(("auc_hard",), "AUC, hard", "against different pairs that share their words", reference=0.5),
    Metric(("auc_plain",), "AUC, plain", "against different pairs that share none", reference=0.5),
    Metric(("similar",), "Cosine, similar", "mean of the similar pairs; read with the next row", better=0),
    Metric(("different",), "Cosine, different", "mean of the different pairs, hard and plain", better=0),
    Metric(("probes", "all"), "Probes", "share of minimal sets told apart; by phenomenon below", reference=0.5),
)


def headline(stages: Sequence[Stage]) -> list[Metric]:
    """The metrics of the verdict and the ladder: those that every stage has."""
    graded = [
        Metric(("sts", name), f"Spearman on {name}", "the same on this STS set", reference=0.0)
        for name in stages[0].get("sts", {})
    ]
    found = [
        Metric(
            ("passages", name),
            f"nDCG@10 on {name}",
            "1 where every query finds its passage first of all, 0 where none finds it among the first ten",
        )
        for name in stages[0].get("passages", {})
    ]
    return on_all((SPEARMAN, *graded, DISCRIMINATION, AUC, KO_EN, EN_KO, *found), stages)


def on_all(metrics: Iterable[Metric], stages: Sequence[Stage]) -> list[Metric]:
    """Those that every stage was measured by."""
    return [metric for metric in metrics if all(metric.of(stage) for stage in stages)]


def measured(metric: Metric, stage: Stage) -> Interval:
    """The value of a metric that :func:`on_all` admitted."""
    found = metric.of(stage)
    assert found is not None, metric.name
    return found


def sign(gain: Interval) -> int:
    """1 where a gain is sure, its whole interval above 0; -1 where a loss is; 0 where they are not told apart."""
    return int(gain.low > 0) - int(gain.high < 0)


def short(stage: Stage) -> str:
    """A stage's name in a column's heading."""
    return "base" if stage["stage"] < 0 else f"stage {stage['stage']}"


def long(stage: Stage) -> str:
    """A stage's name in a sentence."""
    return "the untouched base" if stage["stage"] < 0 else f"stage {stage['stage']} ({stage['name']})"
