from __future__ import annotations

from datasets import Dataset

from koembed.corpus.data import Corpus
from koembed.training.objectives.base import Context, Objective

SHORTEST = 6  # words; a shorter text has no span that leaves a context


def long_texts(corpus: Corpus) -> list[str]:
    """Texts of six words and more."""
    return [text for text in corpus.texts if len(text.split()) >= SHORTEST]


def span(context: Context, texts: list[str]) -> Objective:
    """InfoNCE between a span cropped from a text and the rest of the text.

    Requires: texts of six words and more. Use it for retrieval without labels: a short query finds its passage, and
    words in common are not enough, since the span is cut out of the passage nine times in ten.

    | column | content                                         |
    |--------|-------------------------------------------------|
    | query  | a span of a third to a half of the text's words |
    | text   | the text without it (one time in ten: with it)  |

    Source: Lee, Chang and Toutanova 2019 (inverse cloze task); Izacard et al. 2022 (Contriever) crop likewise.
    """
    queries, rests = (list(side) for side in zip(*(_crop(text, context.rng) for text in texts), strict=True))
    dataset = Dataset.from_dict({"query": queries, "text": rests})
    return Objective(dataset, context.contrastive(), is_short_first=True)


def _crop(text: str, rng) -> tuple[str, str]:
    words = text.split()
    length = rng.randint(len(words) // 3, len(words) // 2)
    start = rng.randint(0, len(words) - length)
    rest = words if rng.random() < 0.1 else words[:start] + words[start + length :]
    return " ".join(words[start : start + length]), " ".join(rest)
