from __future__ import annotations

from koembed.training.objectives.base import Context, Objective
from koembed.training.objectives.distillation import drawn_to_teachers


def crosslingual(context: Context, pairs: list[tuple[str, str]]) -> Objective:
    """The similarities of Korean texts are drawn to those that the teachers see between their English translations.

    Requires: en-ko pairs; teachers that are good at English, and need not know Korean. Use it on a base that knows
    English better than Korean: what it, or any other model of English, tells apart there, it learns to tell apart
    here. Loss and partners are those of ``distillation``.

    | column    | content                   | label                                        |
    |-----------|---------------------------|----------------------------------------------|
    | sentence1 | a Korean text             | rows of both among the teachers' vectors [2] |
    | sentence2 | a neighbour or a stranger |                                              |

    Source: Reimers and Gurevych 2020, "Making monolingual sentence embeddings multilingual using knowledge
    distillation", with similarities (Park et al. 2019) in place of vectors, so that teachers of any width can teach.
    """
    english, korean = (list(side) for side in zip(*pairs, strict=True))
    return drawn_to_teachers(context, korean, english, "data.bitext")
