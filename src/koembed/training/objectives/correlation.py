from __future__ import annotations

from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from koembed.training.objectives.base import Context, Objective
from koembed.training.objectives.cosine import scored_pairs


class CorrelationLoss(nn.Module):
    """``uncorrelated`` of a batch's cosines and its scores.

    Args:
        model: what gives the vectors.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """Of both columns' vectors, [batch, hidden] each; labels: float [batch], the scores."""
        first, second = embeddings
        return uncorrelated(nn.functional.cosine_similarity(first, second), labels)


def uncorrelated(first: Tensor, second: Tensor) -> Tensor:
    """A tenth of one less Pearson's correlation of two vectors, 0 to 0.2: about as large as squared errors are.

    Source: Huang et al. 2022, "Knowledge distillation from a stronger teacher" (DIST).
    """
    first, second = first - first.mean(), second - second.mean()
    return (1 - nn.functional.cosine_similarity(first, second, dim=0)) / 10


def correlation(context: Context, rows: list[tuple[str, str, float]]) -> Objective:
    """The cosines of a batch correlate with its scores, whatever their level and width.

    Requires: scored pairs (triplets give some, see ``Corpus.scored``). Use it in place of ``cosine`` where the base's
    cosines are narrow and in a good order, as E5's from 0.7 to 1: to bring them to the scores costs some of that order.
    Columns as in ``cosine``, scores as they are.
    """
    return Objective(scored_pairs(rows), CorrelationLoss(context.model))
