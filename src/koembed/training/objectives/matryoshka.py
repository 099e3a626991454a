from __future__ import annotations

from dataclasses import replace
from typing import cast

from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss

from koembed.errors import InputError
from koembed.training.objectives.base import Context, Objective
from koembed.training.objectives.healing import BaseVectorLoss


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
    return replace(objective, loss=MatryoshkaLoss(context.model, objective.loss, [width, *smaller]))
