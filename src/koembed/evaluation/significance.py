"""Whether a stage gained on the stage before it: paired bootstrap on the same sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koembed.metrics import Interval, auc, bootstrap, spearman

Floats = NDArray[np.float64]


def paired_gain(
    statistic: Callable[..., float], before: list[Floats], after: list[Floats], resamples: int, *targets: Floats
) -> Interval:
    """``statistic(after) - statistic(before)``, both on the same resampled rows of each group.

    Separate intervals of two models overlap even when one is better on nearly every resample; this one does not forget
    that they were measured on the same pairs (Efron and Tibshirani 1993; Dror et al. 2018 for NLP).

    Args:
        before, after: groups of values, [n_k] each, the same rows in both.
        targets: gold values that belong to the first group's rows, [n_0] each; handed on after the groups.
    """
    stacked = [np.column_stack(columns) for columns in zip(before, after, strict=True)]
    if targets:
        stacked[0] = np.column_stack([stacked[0], *targets])

    def difference(*groups: Floats) -> float:
        gold = [groups[0][:, 2 + number] for number in range(len(targets))]
        sides = [statistic(*(group[:, side] for group in groups), *gold) for side in (0, 1)]
        return float(sides[1] - sides[0])

    return bootstrap(difference, *stacked, resamples=resamples)


def gains(before: dict[str, Any], after: dict[str, Any], scores: dict[str, Floats], resamples: int) -> dict[str, Any]:
    """Paired gains of what ``measure`` found of two models.

    Args:
        before, after: "cosines" by name ("similar", "hard", "plain", "graded", and the STS sets) and "queries" by name
            ("ko_en", "en_ko", and the sets of passages).
        scores: gold scores of "graded" and the STS sets.

    Returns:
        name -> {"value", "low", "high"}; STS sets below "sts", sets of passages below "passages".
    """
    both = before["cosines"], after["cosines"]
    first, second = ({name: np.asarray(values) for name, values in side.items()} for side in both)

    def groups(side: dict[str, Floats]) -> list[Floats]:
        return [side["similar"], np.concatenate([side["hard"], side["plain"]])]

    def rank(name: str) -> dict[str, float]:
        return vars(paired_gain(spearman, [first[name]], [second[name]], resamples, scores[name]))

    def found(name: str) -> dict[str, float]:
        earlier, later = (np.asarray(side["queries"][name]) for side in (before, after))
        return vars(paired_gain(np.mean, [earlier], [later], resamples))

    directions = ("ko_en", "en_ko")
    return {
        "discrimination": vars(paired_gain(discrimination, groups(first), groups(second), resamples)),
        "auc": vars(paired_gain(auc, groups(first), groups(second), resamples)),
        "spearman": rank("graded"),
        "sts": {name: rank(name) for name in scores if name != "graded"},
        **{name: found(name) for name in directions},
        "passages": {name: found(name) for name in after["queries"] if name not in directions},
    }


def discrimination(similar: Floats, different: Floats) -> float:
    """Mean cosine of similar pairs less that of different pairs."""
    return float(similar.mean() - different.mean())
