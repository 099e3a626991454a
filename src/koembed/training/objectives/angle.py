from __future__ import annotations

from sentence_transformers.sentence_transformer.losses import AnglELoss

from koembed.training.objectives.base import Context, Objective
from koembed.training.objectives.cosine import scored_pairs


def angle(context: Context, rows: list[tuple[str, str, float]]) -> Objective:
    """CoSENT's ranking loss over angles in the complex plane in place of cosines.

    ``log(1 + sum exp(20 (s(low pair) - s(high pair))))`` over all pairs of pairs whose scores differ. The two halves of
    a vector of length 1 are the real and the imaginary part of ``z``, and ``s(u, v) = |sum Re(w) + sum Im(w)|`` with
    ``w = z_u conj(z_v)``: the cosine, and beside it a sine.

    Requires: scored pairs. Use it as ``cosent``, where pairs near the ends of the scale matter: the cosine's gradient
    vanishes at 1 and at -1, the sine's is steepest there. Columns as in ``cosine``.

    Source: Li and Li 2024, "AoE: angle-optimized embeddings for semantic textual similarity" (AnglE).
    """
    return Objective(scored_pairs(rows), AnglELoss(context.model))
