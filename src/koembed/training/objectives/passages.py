from __future__ import annotations

from datasets import Dataset

from koembed.training.objectives.base import Context, Objective


def passages(context: Context, rows: list[tuple[str, str]]) -> Objective:
    """InfoNCE between a query and the passage that answers it, against mined and in-batch passages.

    Requires: passages. Use it for retrieval: a title and its article, a question and its answer. Short sentences alone
    do not teach a model to rank passages. Set ``max_length`` to what a passage needs, and ``hard_negatives`` to 1 or
    more once the stage before ranks well enough to find good ones. Queries and passages are read with the model's
    prompts for them, as ``encode_query`` and ``encode_document`` do.

    | column     | content                                             |
    |------------|-----------------------------------------------------|
    | query      | a title or a question                               |
    | passage    | the text that it belongs to                         |
    | mined1 ... | ``hard_negatives`` passages of like but other texts |

    Source: Karpukhin et al. 2020, "Dense passage retrieval for open-domain question answering".
    """
    queries, answers = (list(column) for column in zip(*rows, strict=True))
    columns = {"query": queries, "passage": answers} | context.mined(queries, answers)
    return Objective(Dataset.from_dict(columns), context.contrastive(), is_short_first=True, retrieves=True)
