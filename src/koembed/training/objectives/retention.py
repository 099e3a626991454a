from __future__ import annotations

from koembed.corpus.data import Corpus
from koembed.training.objectives.base import Context, Objective
from koembed.training.objectives.healing import drawn_to_base


def distinct_english(corpus: Corpus) -> list[str]:
    """The English sides of the translations, each once."""
    return list(dict.fromkeys(english for english, _ in corpus.bitext))


def retention(context: Context, texts: list[str]) -> Objective:
    """An English text's vector is drawn to the untouched base's own vector of it.

    ``loss_i = 1 - cos(h(en_i), base(en_i))``

    Requires: en-ko pairs, of which it takes the English. Use it beside objectives that move the body or the adapters
    on Korean alone, where the gate finds English lost. ``alignment`` holds it too, and draws Korean to it.

    | column | content      | label                    |
    |--------|--------------|--------------------------|
    | en     | English text | row of the base's vector |

    Source: Li and Hoiem 2018, "Learning without forgetting".
    """
    return drawn_to_base(context, {"en": texts}, texts)
