"""What an objective is given, and what it gives back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import nn

from koembed.config import Training
from koembed.corpus.data import Corpus
from koembed.errors import InputError
from koembed.training.objectives.contrastive import ContrastiveLoss

Encoder = Callable[[list[str]], NDArray[np.float32]]


def no_negatives(anchors: list[str], positives: list[str]) -> list[list[str]]:
    """What mines where ``hard_negatives`` is 0."""
    return []


@dataclass
class Context:
    """All that examples and losses are built from.

    Attributes:
        model: the model that trains.
        corpus: its training split only.
        teach: the untouched base's encoder, [texts] -> float32 [n, hidden], rows of length 1.
        teachers: of similarities, in the same form.
        settings: the stage's own.
        examples: how many examples to make at most.
        rng: the stage's own source of chance.
        alone: whether the stage has no other objective.
        mine: anchors and their positives -> columns of hard negatives, a text for each anchor.
    """

    model: SentenceTransformer
    corpus: Corpus
    teach: Encoder
    teachers: list[Encoder]
    settings: Training
    examples: int
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

    def sample(self, what: str, rows: list) -> list:
        """At most ``examples`` of the rows, shuffled.

        Raises:
            InputError: there are none.
        """
        if not rows:
            raise InputError(f"objective needs {what}, and the config's data has none; name a source under data")
        return self.rng.sample(rows, min(self.examples, len(rows)))


@dataclass
class Objective:
    """Examples and their loss.

    Attributes:
        needs_dropout: the two columns are views of one text that only dropout tells apart.
        retrieves: the first column holds queries, the others documents, which have prompts of their own.
    """

    dataset: Dataset
    loss: nn.Module
    needs_dropout: bool = False
    retrieves: bool = False
