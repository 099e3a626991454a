from __future__ import annotations

from datasets import Dataset

from koembed.training.objectives.base import Context, Objective


def simcse(context: Context, texts: list[str]) -> Objective:
    """InfoNCE between two passes of each text under different dropout, the other texts of the batch as negatives.

    ``loss_i = -log( exp(cos(h_i, h'_i) / t) / sum_j exp(cos(h_i, h'_j) / t) )``

    Requires: texts; real dropout (the engine forces it on models that have none: without it both views are equal and
    nothing is learned). Use it when new rows and body must adapt to Korean and there are no labels. It pays on
    embeddings and body, hardly on adapters alone.

    | column    | content         |
    |-----------|-----------------|
    | sentence1 | a text          |
    | sentence2 | the same text   |

    Source: Gao, Yao and Chen 2021, "SimCSE: simple contrastive learning of sentence embeddings".
    """
    dataset = Dataset.from_dict({"sentence1": texts, "sentence2": texts})
    return Objective(dataset, context.contrastive(), needs_dropout=True)
