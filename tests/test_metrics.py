import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, roc_auc_score

from conftest import KOREAN
from koembed import metrics
from koembed.metrics import (
    auc,
    bootstrap,
    encode,
    ndcg,
    passage_ndcg,
    reciprocal_ranks,
    relevance,
    retrieval_accuracy,
    spearman,
)

values = st.lists(st.integers(-5, 5).map(float), min_size=3, max_size=40)


@given(values, st.randoms())
def test_spearman_equals_scipy(first, random):
    second = [random.randint(-3, 3) for _ in first]
    if len(set(first)) > 1 and len(set(second)) > 1:
        assert spearman(np.array(first), np.array(second)) == pytest.approx(spearmanr(first, second)[0])


def test_spearman_of_a_constant_is_zero():
    assert spearman(np.ones(4), np.arange(4.0)) == 0


@given(values, values)
def test_auc_equals_scikit_learn(positive, negative):
    labels = [1] * len(positive) + [0] * len(negative)
    assert auc(np.array(positive), np.array(negative)) == pytest.approx(roc_auc_score(labels, positive + negative))


@pytest.mark.parametrize("block", [2, 1_024])
def test_retrieval_accuracy_counts_own_documents(monkeypatch, block):
    monkeypatch.setattr(metrics, "BLOCK", block)
    documents = np.eye(3)
    queries = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, 0, 1.0]])
    assert retrieval_accuracy(queries, documents).tolist() == [1, 0, 1]


def test_bootstrap_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        interval = bootstrap(np.mean, rng.normal(3, 1, 60), resamples=300, seed=seed)
        assert interval.low <= interval.value <= interval.high
        hits += interval.low <= 3 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_reciprocal_ranks_equal_scikit_learn():
    scores = np.random.default_rng(0).normal(size=(30, 30))
    pairs = zip(np.eye(30), scores, strict=True)
    expected = [label_ranking_average_precision_score([own], [row]) for own, row in pairs]  # of one relevant document
    assert reciprocal_ranks(scores) == pytest.approx(expected)


@pytest.mark.parametrize("score", [0, np.nan])
def test_reciprocal_ranks_take_ties_and_what_has_no_score_against_the_model(score):
    assert reciprocal_ranks(np.full((4, 4), score)).tolist() == [0.25] * 4


@pytest.mark.parametrize("block", [7, 1_024])
def test_ndcg_equals_scikit_learn(monkeypatch, block):
    monkeypatch.setattr(metrics, "BLOCK", block)
    generator = np.random.default_rng(0)
    queries, documents = generator.normal(size=(30, 4)), generator.normal(size=(25, 4))
    relevant = generator.random((30, 25)) < 0.1
    relevant[np.arange(30), generator.integers(25, size=30)] = True  # each query has an answer, some have many
    scores = queries @ documents.T
    expected = [ndcg_score([own], [row], k=10) for own, row in zip(relevant, scores, strict=True)]
    assert ndcg(queries, documents, relevant) == pytest.approx(expected)
    assert 0 < ndcg(queries, documents, relevant).mean() < 1


def test_ndcg_takes_ties_against_the_model():
    assert ndcg(np.ones((1, 1)), np.ones((3, 1)), np.array([[True, False, False]])).tolist() == [0.5]


def test_a_passage_that_answers_two_queries_is_found_by_both():
    relevant, queries, passages = relevance([("비 오나요", "내일 비"), ("우산 챙길까요", "내일 비"), ("점심", "국밥")])
    vectors = {"비 오나요": [1, 0], "우산 챙길까요": [1, 0], "내일 비": [1, 0], "점심": [0, 1], "국밥": [0, 1]}
    sides = (np.array([vectors[text] for text in side], float) for side in (queries, passages))
    assert ndcg(*sides, relevant).tolist() == [1, 1, 1]


def test_queries_and_documents_are_read_with_their_prompts(bert_directory):
    model = SentenceTransformer(str(bert_directory), device="cpu", prompts={"query": "비가 ", "document": "문을 "})
    for task, prompt in model.prompts.items():
        expected = encode(model, [prompt + text for text in KOREAN])
        np.testing.assert_allclose(encode(model, KOREAN, task=task), expected, atol=1e-6)
    assert not np.allclose(encode(model, KOREAN), encode(model, KOREAN, task="query"), atol=1e-3)
    pairs = list(zip(KOREAN, reversed(KOREAN), strict=True))
    relevant, queries, passages = relevance(pairs)
    found = ndcg(encode(model, queries, task="query"), encode(model, passages, task="document"), relevant)
    np.testing.assert_allclose(passage_ndcg(model, pairs), found)
