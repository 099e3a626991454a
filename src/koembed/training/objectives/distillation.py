from __future__ import annotations

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

from koembed.training.objectives.base import Context, Objective

NEIGHBOURS = 64  # the second sentence is one of so many nearest
STRANGERS = 0.25  # share of the pairs whose second sentence is any text


def distillation(context: Context) -> Objective:
    """Squared error between the cosine of two texts and their cosine in the teacher's space.

    Requires: texts; a teacher (``vocab.semantic_space``) that knows Korean. Use it where labels are few: the teacher
    grades any number of pairs, on the whole scale, since the second text is drawn from the neighbours of the first
    (rank log-uniform up to 64) or, one time in four, from all texts.

    | column    | content                   | label                              |
    |-----------|---------------------------|------------------------------------|
    | sentence1 | a text                    | teacher's cosine, 0 - 1            |
    | sentence2 | a neighbour or a stranger |                                    |

    Source: Hofstätter et al. 2020 and Reimers and Gurevych 2020 train on a teacher's scores alike.
    """
    texts = context.sample("texts (data.texts)", context.corpus.texts)
    vectors = torch.from_numpy(np.asarray(context.space(texts), np.float32))
    partners = _partners(vectors, torch.Generator().manual_seed(context.rng.getrandbits(32)))
    cosines = (vectors * vectors[partners]).sum(1).clamp(0, 1)
    columns = {"sentence1": texts, "sentence2": [texts[row] for row in partners]}
    return Objective(Dataset.from_dict({**columns, "label": cosines.tolist()}), CosineSimilarityLoss(context.model))


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
        scores[torch.arange(len(rows)), rows] = 2.0  # itself is rank 0
        partners[rows] = scores.topk(count + 1).indices[torch.arange(len(rows)), ranks[rows]]
    return partners
