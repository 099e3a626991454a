from __future__ import annotations

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from koembed.errors import InputError
from koembed.training.objectives.base import Context, Objective
from koembed.training.objectives.correlation import uncorrelated

NEIGHBOURS = 64  # the second sentence is one of so many nearest
STRANGERS = 0.25  # share of the pairs whose second sentence is any text


class SimilarityLoss(nn.Module):
    """``d(cos(u_i, v_i), t(u_i, v_i)) + d(cos(x_i, x_j), t(x_i, x_j))``, ``i < j``.

    The first term is over the batch's pairs, the second over all pairs of its texts, where ``t`` is the product of
    the teachers' vectors less ``offset``: what they hold of unrelated texts becomes 0. ``d`` is the mean squared error,
    or ``uncorrelated``, which is 0 wherever the one is a positive multiple of the other and a constant.

    Args:
        model: the student.
        vectors: float32 [texts, dim], the teachers'; labels are row numbers, since vectors as labels cost memory twice.
        offset: see ``calibrated``.
        relative: take ``uncorrelated``.
    """

    vectors: Tensor

    def __init__(
        self, model: SentenceTransformer, vectors: NDArray[np.float32], offset: float, relative: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.offset = offset
        self.distance = uncorrelated if relative else nn.functional.mse_loss
        self.register_buffer("vectors", torch.from_numpy(vectors), persistent=False)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """Of both columns' vectors, [batch, hidden] each; labels: int64 [batch, 2], the rows of both texts."""
        mine = nn.functional.normalize(torch.cat(embeddings).float(), dim=1)
        theirs = self.vectors[labels.T.flatten()]
        seen, taught = mine @ mine.T, theirs @ theirs.T - self.offset
        n = len(labels)
        apart = torch.ones_like(seen, dtype=torch.bool).triu(1)
        pairs = self.distance(seen[:n, n:].diagonal(), taught[:n, n:].diagonal())
        return pairs + self.distance(seen[apart], taught[apart])


def distillation(context: Context, texts: list[str]) -> Objective:
    """The student's similarities are drawn to the mean similarity of its teachers, in every pair of a batch.

    Requires: texts; teachers that know Korean. Use it where labels are few: the teachers grade any number of pairs, on
    the whole scale, since the second text is drawn from the neighbours of the first (rank log-uniform up to 64) or,
    one time in four, from all texts; and a batch of n pairs holds 2n (2n - 1) / 2 more of them.

    Their values spread the student's cosines to where unrelated texts have 0. Where these are narrow (E5: 0.7 to 1) and
    in a good order, ``settings.similarities: relative`` keeps that order better: it asks for correlation alone.

    | column    | content                   | label                                        |
    |-----------|---------------------------|----------------------------------------------|
    | sentence1 | a text                    | rows of both among the teachers' vectors [2] |
    | sentence2 | a neighbour or a stranger |                                              |

    Source: Park et al. 2019, "Relational knowledge distillation"; Tung and Mori 2019 (similarity-preserving).
    """
    return drawn_to_teachers(context, texts, texts, "data.texts")


def drawn_to_teachers(context: Context, texts: list[str], taught: list[str], source: str) -> Objective:
    """Pairs of texts, with the mean similarity that the teachers see in ``taught``, row by row the same in meaning.

    Raises:
        InputError: there is but one text; the message names the ``source``.
    """
    if len(texts) < 2:
        raise InputError(f"{source} has one text, and teachers grade the similarity of two; name a source of more")
    vectors, offset = calibrated([np.asarray(teacher(taught), np.float32) for teacher in context.teachers])
    partners = _partners(torch.from_numpy(vectors), torch.Generator().manual_seed(context.rng.getrandbits(32)))
    rows = np.stack([np.arange(len(texts)), partners.numpy()], 1)
    loss = SimilarityLoss(context.model, vectors, offset, context.settings.similarities == "relative")
    columns = {"sentence1": texts, "sentence2": [texts[row] for row in partners], "label": rows}
    return Objective(Dataset.from_dict(columns), loss)


def calibrated(teachers: list[NDArray[np.float32]], sample: int = 2_000) -> tuple[NDArray[np.float32], float]:
    """One vector a text, such that product less offset is the mean of the teachers' cosines, unrelated texts at 0.

    A teacher whose unrelated texts have a mean cosine ``m`` (0.05 for USE, 0.8 for E5) gives ``(cos - m) / (1 - m)``.

    Args:
        teachers: float32 [texts, dim] each, rows of length 1.
        sample: texts that ``m`` is measured on, all pairs of them.

    Returns:
        float32 [texts, sum of the dims], and the offset.
    """
    parts, offset = [], 0.0
    for vectors in teachers:
        some = vectors[:sample].astype(np.float64)
        n = len(some)
        mean = float((np.square(some.sum(0)).sum() - n) / max(n * (n - 1), 1))
        weight = 1 / (len(teachers) * (1 - mean))
        parts.append(vectors * np.float32(weight**0.5))
        offset += weight * mean
    return np.concatenate(parts, 1), offset


def _partners(vectors: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Row of a partner for each row, never the row itself; [n] of int64."""
    n = len(vectors)
    count = min(NEIGHBOURS, n - 1)
    chance = torch.rand(n, generator=generator)
    ranks = ((count + 1) ** chance).long().clamp(1, count)  # 1 is the nearest other text
    partners = (torch.arange(n) + torch.randint(1, n, (n,), generator=generator)) % n
    near = torch.rand(n, generator=generator) >= STRANGERS
    for rows in near.nonzero().flatten().split(1024):
        scores = vectors[rows] @ vectors.T
        scores[torch.arange(len(rows)), rows] = torch.inf  # itself is rank 0
        partners[rows] = scores.topk(count + 1).indices[torch.arange(len(rows)), ranks[rows]]
    return partners
