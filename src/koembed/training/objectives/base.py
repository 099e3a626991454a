"""What an objective is given, and what it gives back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import nn

from koembed.corpus.data import Corpus
from koembed.errors import InputError


@dataclass
class Context:
    """All that examples and losses are built from.

    Attributes:
        model: the model that trains.
        corpus: its training split only.
        teach: the untouched base's encoder, [texts] -> float32 [n, hidden], rows of length 1.
        space: the semantic space (``vocab.semantic_space``), a teacher of similarities, in the same form.
        temperature: of InfoNCE's softmax.
        examples: how many examples to make at most.
        rng: the stage's own source of chance.
        alone: whether the stage has no other objective.
    """

    model: SentenceTransformer
    corpus: Corpus
    teach: Callable[[list[str]], NDArray[np.float32]]
    space: Callable[[list[str]], NDArray[np.float32]]
    temperature: float
    examples: int
    rng: random.Random
    alone: bool = True

    def in_batch_negatives(self, **options: Any) -> MultipleNegativesRankingLoss:
        """InfoNCE at this temperature, with the negatives of all processes where several train on this objective alone.

        In a mixture, processes may be at different objectives in one step, and would wait for each other for ever.
        """
        several = self.alone and torch.distributed.is_available() and torch.distributed.is_initialized()
        return MultipleNegativesRankingLoss(
            self.model, scale=1 / self.temperature, gather_across_devices=several, **options
        )

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
    """Examples, their loss, and whether the two columns are views of one text that only dropout tells apart."""

    dataset: Dataset
    loss: nn.Module
    needs_dropout: bool = False
