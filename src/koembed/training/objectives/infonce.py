from __future__ import annotations

from datasets import Dataset

from koembed.training.objectives.base import Context, Objective


def infonce(context: Context, rows: list[tuple[str, str, str]]) -> Objective:
    """InfoNCE of labelled triplets: the positive against the hard negative and everything else in the batch.

    Requires: triplets. Use it for ranking and retrieval; beside it put ``cosine``, which keeps the cosines spread.

    | column        | content                                     |
    |---------------|---------------------------------------------|
    | anchor        | a text                                      |
    | positive      | the same meaning                            |
    | hard_negative | many of the same words, another meaning     |
    | mined1 ...    | ``hard_negatives`` more, mined              |

    Source: van den Oord, Li and Vinyals 2018; Henderson et al. 2017 (in-batch negatives).
    """
    anchors, positives, negatives = (list(column) for column in zip(*rows, strict=True))
    columns = {"anchor": anchors, "positive": positives, "hard_negative": negatives}
    return Objective(Dataset.from_dict(columns | context.mined(anchors, positives)), context.contrastive())
