from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from torch import Tensor, nn

from koembed.errors import InputError
from koembed.training.objectives.base import Context, Objective
from koembed.training.objectives.healing import BaseVectorLoss


class TruncatedLoss(nn.Module):
    """The sum of a loss over each of some widths, of the vectors' first so many dimensions.

    sentence-transformers' MatryoshkaLoss does the same to losses that embed their columns themselves.
    """

    def __init__(self, loss: nn.Module, widths: list[int]) -> None:
        super().__init__()
        self.loss = loss
        self.widths = widths

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None) -> Tensor:
        """Of the columns' vectors, [batch, hidden] each."""
        loss_of = cast(Any, self.loss).compute_loss_from_embeddings
        return cast(Tensor, sum(loss_of([column[:, :width] for column in embeddings], labels) for width in self.widths))


def matryoshka(context: Context, objective: Objective) -> Objective:
    """The sum of the objective's loss at full width and at each smaller one, on so many first dimensions.

    Use it where embeddings will be cut to save memory or time. Objectives that draw to the base's vectors stay as they
    are: a vector that equals the base's equals it in its first dimensions too.

    Raises:
        InputError: a dimension is not below the model's.

    Source: Kusupati et al. 2022, "Matryoshka representation learning".
    """
    smaller, width = context.settings.matryoshka, cast(int, context.model.get_embedding_dimension())
    if not smaller or isinstance(objective.loss, BaseVectorLoss):
        return objective
    if max(smaller) >= width:
        raise InputError(f"matryoshka: {max(smaller)} is not below the model's {width} dimensions; name smaller ones")
    return replace(objective, loss=TruncatedLoss(objective.loss, [width, *smaller]))
