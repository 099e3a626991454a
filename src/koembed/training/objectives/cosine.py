from __future__ import annotations

from datasets import Dataset
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

from koembed.training.objectives.base import Context, Objective


def cosine(context: Context, rows: list[tuple[str, str, float]]) -> Objective:
    """Squared error between the cosine of a pair and its graded score on 0-1.

    Requires: scored pairs (triplets give some, see ``Corpus.scored``). Use it with InfoNCE: it raises the ranking and
    keeps similar and different pairs apart in value too, where CoSENT ranks and squeezes (discrimination 0.37 -> 0.47
    against 0.37 -> 0.18 on the same adapters and data).

    Whoever cannot tell pairs apart errs least by giving all of them the mean, so a regression's predictions lie nearer
    together than the scores. ``settings.spread`` asks for more than the scores in return: a score of s becomes
    ``s + spread (s - 1/2)``.

    | column    | content | label                |
    |-----------|---------|----------------------|
    | sentence1 | a text  | score, 0 - 1, spread |
    | sentence2 | a text  |                      |

    Source: Reimers and Gurevych 2019, "Sentence-BERT", regression objective.
    """
    spread = context.settings.spread
    apart = [(first, second, score + spread * (score - 0.5)) for first, second, score in rows]
    return Objective(scored_pairs(apart), CosineSimilarityLoss(context.model))


def scored_pairs(rows: list[tuple[str, str, float]]) -> Dataset:
    """Columns sentence1, sentence2, label (the score)."""
    first, second, scores = (list(column) for column in zip(*rows, strict=True))
    return Dataset.from_dict({"sentence1": first, "sentence2": second, "label": scores})
