from __future__ import annotations

from koembed.training.objectives.base import Context, Objective
from koembed.training.objectives.distillation import drawn_to_similarities


def preservation(context: Context) -> Objective:
    """The similarities of English texts are drawn to the untouched base's, in every pair of a batch.

    Requires: en-ko pairs, of which it takes the English. Use it beside objectives that spread the cosines of a base
    whose own lie close together (E5's between 0.7 and 1), where the gate finds English lost. ``retention`` and
    ``alignment`` hold the vectors themselves, and would hold the cosines together. Here the base's similarity of
    unrelated texts becomes 0: their order is kept, not their place.

    | column    | content                | label                                    |
    |-----------|------------------------|------------------------------------------|
    | sentence1 | an English text        | rows of both among the base's vectors [2] |
    | sentence2 | a neighbour or another |                                          |

    Source: Tung and Mori 2019, "Similarity-preserving knowledge distillation"; Li and Hoiem 2018, "Learning without
    forgetting".
    """
    english = list(dict.fromkeys(english for english, _ in context.corpus.bitext))
    texts = context.sample("en-ko pairs (data.bitext)", english)
    return drawn_to_similarities(context, texts, [context.teach])
