from __future__ import annotations

from koembed.training.objectives.base import Context, Objective
from koembed.training.objectives.healing import drawn_to_base


def alignment(context: Context, pairs: list[tuple[str, str]]) -> Objective:
    """Both sides of a translation are drawn to the untouched base's own vector of the English side.

    ``loss_i = (1 - cos(h(ko_i), base(en_i))) / 2 + (1 - cos(h(en_i), base(en_i))) / 2``

    Requires: en-ko pairs. Use it on a base that is good at English: Korean inherits its geometry, and English keeps it.

    | column | content      | label                           |
    |--------|--------------|---------------------------------|
    | ko     | Korean text  | row of the base's vector of `en` |
    | en     | English text | the same                        |

    Source: Reimers and Gurevych 2020, "Making monolingual sentence embeddings multilingual using knowledge
    distillation", with the cosine in place of the squared error (its vectors have length 1).
    """
    english, korean = (list(side) for side in zip(*pairs, strict=True))
    return drawn_to_base(context, {"ko": korean, "en": english}, english)
