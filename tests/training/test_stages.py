"""What a training is continued from: its own settings and its own data, nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from koembed.config import Training
from koembed.corpus.data import Corpus
from koembed.training.stages import digest

CORPUS = Corpus(texts=["비가 옵니다."], bitext=[("Rain.", "비.")], triplets=[], scored=[("비", "눈", 0.2)])


def test_the_same_training_is_continued():
    assert digest(Training(), 0, CORPUS) == digest(Training(), 0, replace(CORPUS))


@pytest.mark.parametrize(
    ("settings", "seed", "corpus"),
    [
        ({"learning_rate": 0.02}, 0, CORPUS),
        ({}, 1, CORPUS),
        ({}, 0, replace(CORPUS, texts=["눈이 옵니다."])),
        ({}, 0, replace(CORPUS, scored=[("비", "눈", 0.4)])),
        ({}, 0, replace(CORPUS, passages=[("날씨", "비가 옵니다.")])),
    ],
    ids=["settings", "seed", "texts", "scores", "passages"],
)
def test_another_training_starts_afresh(settings, seed, corpus):
    assert digest(Training(**settings), seed, corpus) != digest(Training(), 0, CORPUS)
