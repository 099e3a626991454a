"""Training objectives, one a file: each turns the corpus into examples and names the loss that learns from them.

A new one is a file here, a line in OBJECTIVES and its name in ``config.ObjectiveName``, which configs are checked by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from koembed.corpus.data import Corpus
from koembed.errors import InputError
from koembed.training.objectives.alignment import alignment
from koembed.training.objectives.angle import angle
from koembed.training.objectives.base import Context, Objective
from koembed.training.objectives.correlation import correlation
from koembed.training.objectives.cosent import cosent
from koembed.training.objectives.cosine import cosine
from koembed.training.objectives.crosslingual import crosslingual
from koembed.training.objectives.distillation import distillation
from koembed.training.objectives.healing import healing
from koembed.training.objectives.infonce import infonce
from koembed.training.objectives.matryoshka import matryoshka
from koembed.training.objectives.passages import passages
from koembed.training.objectives.retention import distinct_english, retention
from koembed.training.objectives.simcse import simcse
from koembed.training.objectives.span import long_texts, span
from koembed.training.objectives.translation import translation
from koembed.training.objectives.triplet import triplet


@dataclass(frozen=True)
class Source:
    """What the corpus has for some of the objectives: what to call it, and its rows."""

    name: str
    rows: Callable[[Corpus], list[Any]]


TEXTS = Source("texts (data.texts)", lambda corpus: corpus.texts)
LONG_TEXTS = Source("texts of six words and more (data.texts)", long_texts)
BITEXT = Source("en-ko pairs (data.bitext)", lambda corpus: corpus.bitext)
ENGLISH = Source("en-ko pairs (data.bitext)", distinct_english)
TRIPLETS = Source("triplets (data.pairs)", lambda corpus: corpus.triplets)
SCORED = Source("scored pairs or triplets (data.pairs)", lambda corpus: corpus.scored)
PASSAGES = Source("queries with passages (data.passages)", lambda corpus: corpus.passages)

OBJECTIVES: dict[str, tuple[Source, Callable[[Context, list[Any]], Objective]]] = {
    "simcse": (TEXTS, simcse),
    "span": (LONG_TEXTS, span),
    "healing": (TEXTS, healing),
    "retention": (ENGLISH, retention),
    "alignment": (BITEXT, alignment),
    "translation": (BITEXT, translation),
    "distillation": (TEXTS, distillation),
    "crosslingual": (BITEXT, crosslingual),
    "infonce": (TRIPLETS, infonce),
    "triplet": (TRIPLETS, triplet),
    "cosine": (SCORED, cosine),
    "correlation": (SCORED, correlation),
    "cosent": (SCORED, cosent),
    "angle": (SCORED, angle),
    "passages": (PASSAGES, passages),
}

TAUGHT = {"distillation", "crosslingual"}  # by the models that `teachers` names

__all__ = ["OBJECTIVES", "TAUGHT", "Context", "Objective", "build", "source_rows"]


def source_rows(name: str, corpus: Corpus) -> list[Any]:
    """The rows of the corpus that an objective draws its examples from.

    Raises:
        InputError: there are none.
    """
    source, _ = OBJECTIVES[name]
    if not (rows := source.rows(corpus)):
        raise InputError(f"objective {name} needs {source.name}, and the config's data has none; name a source of them")
    return rows


def build(name: str, context: Context, corpus: Corpus, examples: int) -> Objective:
    """The objective of this name, at smaller dimensions too where ``context.settings.matryoshka`` has some.

    Args:
        examples: how many to draw, at most.

    Raises:
        InputError: the corpus lacks what it needs.
    """
    rows = source_rows(name, corpus)
    _, objective = OBJECTIVES[name]
    return matryoshka(context, objective(context, context.rng.sample(rows, min(examples, len(rows)))))
