from __future__ import annotations

from sentence_transformers.sentence_transformer.losses import CoSENTLoss

from koembed.training.objectives.base import Context, Objective
from koembed.training.objectives.cosine import scored_pairs


def cosent(context: Context, rows: list[tuple[str, str, float]]) -> Objective:
    """``log(1 + sum exp(20 (cos(low pair) - cos(high pair))))`` over all pairs of pairs whose scores differ.

    Requires: scored pairs. Use it where only the ranking counts (Spearman): it lets the cosines squeeze together.
    Columns as in ``cosine``.

    Source: Su 2022, "CoSENT: a more efficient sentence vector scheme than Sentence-BERT".
    """
    return Objective(scored_pairs(rows), CoSENTLoss(context.model))
