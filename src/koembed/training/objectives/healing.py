from __future__ import annotations

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import EmbedDistillLoss
from torch import Tensor, nn

from koembed.training.objectives.base import Context, Objective


class BaseVectorLoss(nn.Module):
    """``1 - cos`` between the vectors of every column and the base's vector of the row, mean over all.

    The base's vectors are kept here, and labels are their row numbers: as a column of the dataset they would pass
    through lists of Python floats in every batch.

    Args:
        model: the model that trains.
        vectors: the base's, float32 [rows, hidden].
    """

    vectors: Tensor

    def __init__(self, model: SentenceTransformer, vectors: NDArray[np.float32]) -> None:
        super().__init__()
        self.distance = EmbedDistillLoss(model, distance_metric="cosine")
        self.register_buffer("vectors", torch.from_numpy(vectors), persistent=False)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """Of the columns' vectors, [batch, hidden] each; labels: int64 [batch], row numbers."""
        return self.distance.compute_loss_from_embeddings(embeddings, [self.vectors[labels]] * len(embeddings))


def healing(context: Context, texts: list[str]) -> Objective:
    """A Korean text's vector is drawn to the untouched base's own vector of the same text.

    ``loss_i = 1 - cos(h(ko_i), base(ko_i))``

    Requires: texts. Use it on a base that already knows Korean and whose texts only are cut into other tokens now: no
    labels, and nothing new to learn, but new rows and body come to give what the base gave.

    | column | content     | label                    |
    |--------|-------------|--------------------------|
    | ko     | Korean text | row of the base's vector |

    Source: Hinton, Vinyals and Dean 2015; Furlanello et al. 2018, "Born-again neural networks" (a teacher of the
    student's own shape).
    """
    return drawn_to_base(context, {"ko": texts}, texts)


def drawn_to_base(context: Context, columns: dict[str, list[str]], taught: list[str]) -> Objective:
    """All columns are drawn to the untouched base's vectors of ``taught``, row by row."""
    dataset = Dataset.from_dict({**columns, "label": range(len(taught))})
    return Objective(dataset, BaseVectorLoss(context.model, context.teach(taught)))
