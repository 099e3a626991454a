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

from koembed.corpus.data import Corpus
from koembed.errors import InputError


@dataclass
class Context:
    """All that examples and losses are built from.

    Attributes:
        model: the model that trains.
        corpus: its training split only.
        teach: the untouched base's encoder, [texts] -> float32 [n, hidden], rows of length 1.
        temperature: of InfoNCE's softmax.
        examples: how many examples to make at most.
        rng: the stage's own source of chance.
    """

    model: SentenceTransformer
    corpus: Corpus
    teach: Callable[[list[str]], NDArray[np.float32]]
    temperature: float
    examples: int
    rng: random.Random

    @property
    def distributed(self) -> bool:
        """Whether several processes train: negatives are then gathered from all of them."""
        return torch.distributed.is_available() and torch.distributed.is_initialized()

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
