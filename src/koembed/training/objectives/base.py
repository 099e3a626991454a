"""What an objective is given, and what it gives back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import Tensor, nn

from koembed.config import Training
from koembed.models import Encoder
from koembed.training.objectives.contrastive import ContrastiveLoss


def no_negatives(anchors: list[str], positives: list[str]) -> list[list[str]]:
    """What mines where ``hard_negatives`` is 0."""
    return []


@dataclass
class Context:
    """What examples and losses are built from, besides the corpus's rows.

    Attributes:
        model: the model that trains.
        teach: the untouched base's encoder, [texts] -> float32 [n, hidden], rows of length 1.
        teachers: of similarities, in the same form.
        settings: the stage's own.
        rng: the stage's own source of chance.
        alone: whether the stage has no other objective.
        mine: anchors and their positives -> columns of hard negatives, a text for each anchor.
    """

    model: SentenceTransformer
    teach: Encoder
    teachers: list[Encoder]
    settings: Training
    rng: random.Random
    alone: bool = True
    mine: Callable[[list[str], list[str]], list[list[str]]] = no_negatives

    def contrastive(self, both_ways: bool = False) -> ContrastiveLoss:
        """InfoNCE with the stage's settings; negatives of all processes where several train on this objective alone.

        In a mixture, processes may be at different objectives in one step, and would wait for each other for ever.
        """
        return ContrastiveLoss(
            self.model,
            self.settings.temperature,
            learn_temperature=self.settings.learn_temperature,
            margin=self.settings.false_negative_margin,
            both_ways=both_ways,
            gather=self.alone and torch.distributed.is_available() and torch.distributed.is_initialized(),
        )

    def mined(self, anchors: list[str], positives: list[str]) -> dict[str, list[str]]:
        """The mined hard negatives as columns ``mined1``, ``mined2`` and so on."""
        return {f"mined{number}": column for number, column in enumerate(self.mine(anchors, positives), 1)}


@dataclass
class Objective:
    """Examples and their loss.

    Attributes:
        loss: as sentence-transformers has them: ``compute_loss_from_embeddings`` takes a list of the columns' vectors
            and the labels, and the model that trains is among its modules.
        needs_dropout: the two columns are views of one text that only dropout tells apart.
        is_short_first: the first column's texts are much shorter than the others'.
        retrieves: the first column holds queries, the others documents, which have prompts of their own.
    """

    dataset: Dataset
    loss: nn.Module
    needs_dropout: bool = False
    is_short_first: bool = False
    retrieves: bool = False

    def loss_of(self, model: nn.Module, features: list[dict[str, Any]], labels: Tensor | None) -> Tensor:
        """Scalar loss of a batch, whose columns go through the model in one pass where they are about equally long.

        One pass over both columns of 32 short texts takes less time than two (benchmarks/length_grouping.py).
        A column that is much shorter goes by itself: in one pass it would be padded to the others' length.
        """
        vectors = embed_columns(model, features, separate_first=self.is_short_first)
        return cast(Tensor, cast(Any, self.loss).compute_loss_from_embeddings(vectors, labels))
