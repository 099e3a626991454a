from __future__ import annotations

from datasets import Dataset

from koembed.training.objectives.base import Context, Objective


def translation(context: Context, pairs: list[tuple[str, str]]) -> Objective:
    """InfoNCE between the two sides of translations, in both directions, the batch's others as negatives.

    Requires: en-ko pairs. Use it for retrieval across the two languages, or where the base's English is not the goal.

    | column | content      |
    |--------|--------------|
    | ko     | Korean text  |
    | en     | English text |

    Source: Feng et al. 2022, "Language-agnostic BERT sentence embedding", without its additive margin.
    """
    dataset = Dataset.from_dict({"ko": [korean for _, korean in pairs], "en": [english for english, _ in pairs]})
    return Objective(dataset, context.contrastive(both_ways=True))
