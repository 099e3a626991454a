"""KoPairs: labelled Korean pairs written for this project (CC BY 4.0; see datasheet.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from datasets import Dataset

Kind = Literal["similar", "hard", "plain", "graded"]


@dataclass(frozen=True)
class Pair:
    """A labelled pair of the select or test split.

    Attributes:
        kind: "similar", or different: "hard" (shares words) and "plain" (does not), or "graded".
        score: 0-5 as KLUE-STS grades, for graded pairs only.
    """

    id: str
    sentence1: str
    sentence2: str
    kind: Kind
    score: float | None
    phenomenon: str
    domain: str


@dataclass(frozen=True)
class Probe:
    """A minimal set: ``should_stay_close`` keeps the meaning of ``base``, ``should_move_away`` changes it."""

    id: str
    phenomenon: str
    base: str
    should_stay_close: str
    should_move_away: str


def read(name: str) -> list[dict]:
    """The rows of ``name``.jsonl as they stand: train, graded, select, test or probes."""
    text = files(__package__).joinpath(f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@cache
def pairs(split: Literal["select", "test"]) -> tuple[Pair, ...]:
    """The labelled pairs of a split that nothing trains on."""
    return tuple(Pair(**row) for row in read(split))


@cache
def probes() -> tuple[Probe, ...]:
    """The minimal sets, by phenomenon."""
    return tuple(Probe(**row) for row in read("probes"))


def triplets() -> list[tuple[str, str, str]]:
    """(anchor, positive, hard negative) of the training split."""
    return [(row["anchor"], row["positive"], row["hard_negative"]) for row in read("train")]


def graded() -> list[tuple[str, str, float]]:
    """(sentence, sentence, score 0-5) of the training split."""
    return [(row["sentence1"], row["sentence2"], row["score"]) for row in read("graded")]


def translations() -> list[tuple[str, str]]:
    """(English, Korean) of every sentence of the training splits."""
    rows = [*read("train"), *read("graded")]
    return [(row[f"{field}_en"], row[field]) for row in rows for field in row if f"{field}_en" in row]


def dataset(split: Literal["train", "select", "test"]) -> Dataset:
    """A split as sentence-transformers takes it: triplet columns for train; sentence1, sentence2, label otherwise.

    The label of select and test is the score on 0-1 for graded pairs, 1 for similar and 0 for different ones.

    >>> dataset("train").column_names
    ['anchor', 'positive', 'hard_negative']
    """
    if split == "train":
        anchors, positives, negatives = (list(column) for column in zip(*triplets(), strict=True))
        return Dataset.from_dict({"anchor": anchors, "positive": positives, "hard_negative": negatives})
    found = pairs(split)
    labels = [float(pair.kind == "similar") if pair.score is None else pair.score / 5 for pair in found]
    sentences = {"sentence1": [pair.sentence1 for pair in found], "sentence2": [pair.sentence2 for pair in found]}
    return Dataset.from_dict({**sentences, "label": labels})
