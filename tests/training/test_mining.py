import builtins

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from conftest import ENGLISH
from koembed.config import Training
from koembed.errors import InputError
from koembed.metrics import encode
from koembed.training import mining
from koembed.training.mining import mine, mined_once, nearest_approximate, nearest_exact, pool_of
from support import PASSAGES, TRIPLETS, built

WORDS = [*ENGLISH, *(f"{first} {second}" for first in ENGLISH for second in ENGLISH[:3])]
PAIRS = [(WORDS[i], WORDS[-1 - i]) for i in range(24)] + [(WORDS[i], WORDS[30 + i]) for i in range(6)]
ANCHORS, POSITIVES = ([pair[side] for pair in PAIRS] for side in (0, 1))


@pytest.fixture
def model(bert_directory) -> SentenceTransformer:
    return SentenceTransformer(str(bert_directory), device="cpu")


def plain(anchor: np.ndarray, positive: np.ndarray, texts: np.ndarray, same: set[int], count: int) -> list[int]:
    """The rule, one text at a time in float64: at most ``count`` rows, nearest first."""
    limit = anchor @ positive - 0.05 * abs(anchor @ positive)
    cosines = {row: text @ anchor for row, text in enumerate(texts) if row not in same}
    return sorted((row for row in cosines if cosines[row] <= limit), key=lambda row: -cosines[row])[:count]


def wide(model: SentenceTransformer, texts: list[str]) -> np.ndarray:
    vectors = encode(model, texts).astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("retrieves", "expected"), [(True, ["query", "document"]), (False, [None, None])])
def test_negatives_of_passages_are_mined_as_queries_and_documents(model, monkeypatch, retrieves, expected):
    tasks = []
    monkeypatch.setattr(mining, "encode", lambda model, texts, task: tasks.append(task) or encode(model, texts))
    mine(model, ANCHORS, POSITIVES, pool_of(PAIRS), count=3, retrieves=retrieves)
    assert tasks == expected


def test_negatives_are_the_nearest_that_the_rule_admits(model):
    pool = pool_of(PAIRS)
    found = mine(model, ANCHORS, POSITIVES, pool, count=3)
    texts = wide(model, pool.texts)
    short = 0
    for row, (anchor, positive) in zip(found, PAIRS, strict=True):
        assert len(set(row)) == 3
        assert not {pool.texts[place] for place in row} & {second for first, second in PAIRS if first == anchor}
        expected = plain(*wide(model, [anchor, positive]), texts, pool.same[anchor], 3)
        assert row[: len(expected)].tolist() == expected
        short += len(expected) < 3
    assert 0 < short < len(PAIRS)  # some rows were topped up with strangers, others not


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 9))
def test_blocks_search_as_the_plain_rule(seed, count, rows_at_once):
    rng = np.random.default_rng(seed)
    queries, texts = (rng.normal(size=(number, 4)).astype(np.float32) for number in (7, 12))
    limits = rng.normal(size=7).astype(np.float32)
    same = [set(rng.integers(12, size=2).tolist()) for _ in range(7)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "BLOCK", rows_at_once * 12)
        found = nearest_exact(queries, texts, limits, same, count)
    for query, limit, known, row in zip(queries, limits, same, found, strict=True):
        products = texts.astype(np.float64) @ query.astype(np.float64)
        order = [place for place in np.argsort(-products) if products[place] <= limit and place not in known][:count]
        assert row.tolist() == order + [-1] * (count - len(order))


def test_faiss_finds_nearly_all_that_an_exact_search_finds():
    """8,000 texts around 100 topics, as FAISS's lists expect them."""
    rng = np.random.default_rng(0)
    topics = rng.normal(size=(100, 16))
    texts = topics[rng.integers(100, size=8_000)] + 0.3 * rng.normal(size=(8_000, 16))
    texts = (texts / np.linalg.norm(texts, axis=1, keepdims=True)).astype(np.float32)
    queries, own = texts[:300], np.full(300, 0.97, np.float32)
    same = [{row} for row in range(300)]
    exact = nearest_exact(queries, texts, own, same, 4)
    found = nearest_approximate(queries, texts, own, same, 4)
    assert np.mean([len(set(a) & set(b)) / 4 for a, b in zip(exact, found, strict=True)]) > 0.95
    for row, rows in enumerate(found):
        assert row not in rows
        assert (texts[rows[rows >= 0]] @ queries[row] <= own[row]).all()


def test_too_many_texts_without_faiss_say_what_to_install(model, monkeypatch):
    def no_faiss(name, *args):
        if name == "faiss":
            raise ImportError(name)
        return importing(name, *args)

    importing = builtins.__import__
    monkeypatch.setattr(mining, "EXACT", 10)
    monkeypatch.setattr(builtins, "__import__", no_faiss)
    with pytest.raises(InputError, match="pip install faiss-cpu"):
        mine(model, ANCHORS, POSITIVES, pool_of(PAIRS), count=1)


def test_more_negatives_than_texts_are_refused(model):
    with pytest.raises(InputError, match="hard_negatives=40: some anchors have only 28 other texts"):
        mine(model, ANCHORS, POSITIVES, pool_of(PAIRS), count=40)


def test_a_training_that_continues_has_the_negatives_it_began_with(bert_directory, qwen3_directory, tmp_path):
    """Another model would find others; the same pairs are not searched again, other pairs are."""
    models = [SentenceTransformer(str(directory), device="cpu") for directory in (bert_directory, qwen3_directory)]
    first, again = (mined_once(model, PAIRS, 2, 0, tmp_path, ANCHORS, POSITIVES) for model in models)
    assert first == again
    assert len(first) == 2
    assert mined_once(models[1], PAIRS, 2, 0, tmp_path / "elsewhere", ANCHORS, POSITIVES) != first
    fewer = mined_once(models[0], PAIRS, 2, 0, tmp_path, ANCHORS[:5], POSITIVES[:5])
    assert fewer == [column[:5] for column in first]
    assert mined_once(models[0], PAIRS, 0, 0, tmp_path, ANCHORS, POSITIVES) == []


@pytest.mark.parametrize(("name", "columns"), [("infonce", 5), ("passages", 4), ("triplet", 3)])
def test_objectives_get_columns_of_negatives(model, tmp_path, name, columns):
    """``triplet`` has room for its labelled negative alone."""
    pairs = PASSAGES if name == "passages" else [triplet[:2] for triplet in TRIPLETS]

    def mine(anchors: list[str], positives: list[str]) -> list[list[str]]:
        return mined_once(model, pairs, 2, 0, tmp_path, anchors, positives)

    objective = built(name, model, settings=Training(hard_negatives=2), mine=mine)
    assert len(objective.dataset.column_names) == columns
    rows = [list(row.values()) for row in objective.dataset]
    features = [model.preprocess(list(column)) for column in zip(*rows, strict=True)]
    assert objective.loss_of(model, features, None).isfinite()
