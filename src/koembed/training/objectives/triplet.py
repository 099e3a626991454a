from __future__ import annotations

from dataclasses import replace

from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric, TripletLoss

from koembed.training.objectives.base import Context, Objective, no_negatives
from koembed.training.objectives.infonce import infonce

MARGIN = 0.2


def triplet(context: Context, rows: list[tuple[str, str, str]]) -> Objective:
    """``max(0, d(anchor, positive) - d(anchor, hard_negative) + 0.2)`` with ``d = 1 - cos``.

    Requires: triplets; columns as in ``infonce``, none mined. Use it to push hard negatives alone: it sees no in-batch
    negatives.

    Source: Schroff, Kalenichenko and Philbin 2015, "FaceNet".
    """
    loss = TripletLoss(context.model, distance_metric=TripletDistanceMetric.COSINE, triplet_margin=MARGIN)
    return Objective(infonce(replace(context, mine=no_negatives), rows).dataset, loss)
