"""Every objective against its formula in float64, on the vectors the model itself gives."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from koembed.corpus.data import Corpus
from koembed.errors import InputError
from koembed.evaluation.metrics import encode
from koembed.training.objectives import OBJECTIVES, Objective
from support import LONG, context


@pytest.fixture(scope="module")
def model(bert_directory) -> SentenceTransformer:
    return SentenceTransformer(str(bert_directory), device="cpu").eval()


def build(name: str, model: SentenceTransformer, **changes) -> Objective:
    return OBJECTIVES[name](context(model, **changes))


def loss_of(objective: Objective, model: SentenceTransformer) -> float:
    """The loss of all examples as one batch, dropout off."""
    dataset = objective.dataset
    columns = [name for name in dataset.column_names if name != "label"]
    features = [model.preprocess(list(dataset[name])) for name in columns]
    labels = torch.tensor(np.array(dataset["label"]), dtype=torch.float32) if "label" in dataset.column_names else None
    with torch.no_grad():
        return float(objective.loss(features, labels))


def vectors(objective: Objective, model: SentenceTransformer, column: str) -> np.ndarray:
    return encode(model, list(objective.dataset[column])).astype(np.float64)


def infonce(anchors: np.ndarray, candidates: np.ndarray, temperature: float = 0.05) -> float:
    """-mean log softmax of each anchor's own candidate."""
    scores = anchors @ candidates.T / temperature
    peak = scores.max(1, keepdims=True)
    logs = scores - peak - np.log(np.exp(scores - peak).sum(1, keepdims=True))
    return -float(np.mean(np.diag(logs[:, : len(anchors)])))


def test_simcse(model):
    objective = build("simcse", model)
    assert objective.needs_dropout
    assert objective.dataset["sentence1"] == objective.dataset["sentence2"]
    same = vectors(objective, model, "sentence1")
    assert loss_of(objective, model) == pytest.approx(infonce(same, same), rel=1e-3)


def test_infonce_with_hard_negatives(model):
    objective = build("infonce", model)
    anchors, positives, negatives = (
        vectors(objective, model, name) for name in ("anchor", "positive", "hard_negative")
    )
    expected = infonce(anchors, np.concatenate([positives, negatives]))
    assert loss_of(objective, model) == pytest.approx(expected, rel=1e-3)


def test_translation_goes_both_ways(model):
    objective = build("translation", model)
    korean, english = vectors(objective, model, "ko"), vectors(objective, model, "en")
    expected = (infonce(korean, english) + infonce(english, korean)) / 2
    assert loss_of(objective, model) == pytest.approx(expected, rel=1e-3)


def test_alignment_draws_both_sides_to_the_teachers_english(model):
    objective = build("alignment", model)
    target = np.array(objective.dataset["label"], dtype=np.float64)
    sides = [vectors(objective, model, name) for name in ("ko", "en")]
    expected = np.mean([1 - (side * target).sum(1) for side in sides])
    assert loss_of(objective, model) == pytest.approx(expected, rel=1e-3)


def cosines(objective: Objective, model: SentenceTransformer) -> tuple[np.ndarray, np.ndarray]:
    pairs = [vectors(objective, model, name) for name in ("sentence1", "sentence2")]
    return (pairs[0] * pairs[1]).sum(1), np.array(objective.dataset["label"])


@pytest.mark.parametrize("name", ["cosine", "distillation"])
def test_cosine_regression(model, name):
    objective = build(name, model)
    predicted, labels = cosines(objective, model)
    assert loss_of(objective, model) == pytest.approx(np.mean((predicted - labels) ** 2), rel=1e-3, abs=1e-6)


def test_distillation_pairs_no_text_with_itself_and_labels_with_the_teacher(model):
    objective = build("distillation", model)
    predicted, labels = cosines(objective, model)
    pairs = zip(objective.dataset["sentence1"], objective.dataset["sentence2"], strict=True)
    assert all(first != second for first, second in pairs)
    np.testing.assert_allclose(labels, predicted.clip(0, 1), atol=1e-5)  # here the model is its own teacher


def test_cosent(model):
    objective = build("cosent", model)
    predicted, labels = cosines(objective, model)
    terms = [20 * (predicted[j] - predicted[i]) for i in range(6) for j in range(6) if labels[i] > labels[j]]
    assert loss_of(objective, model) == pytest.approx(np.log(1 + np.exp(terms).sum()), rel=1e-3)


def test_triplet(model):
    objective = build("triplet", model)
    anchors, positives, negatives = (
        vectors(objective, model, name) for name in ("anchor", "positive", "hard_negative")
    )
    margins = (anchors * negatives).sum(1) - (anchors * positives).sum(1) + 0.2
    assert loss_of(objective, model) == pytest.approx(np.maximum(margins, 0).mean(), rel=1e-3)


def test_span_cuts_queries_out_of_their_texts(model):
    objective = build("span", model)
    for query, rest in zip(objective.dataset["query"], objective.dataset["text"], strict=True):
        source = next(
            text for text in LONG if query in text and (rest == text or set(rest.split()) <= set(text.split()))
        )
        words = len(source.split())
        assert words // 3 <= len(query.split()) <= words // 2
    queries, texts = vectors(objective, model, "query"), vectors(objective, model, "text")
    assert loss_of(objective, model) == pytest.approx(infonce(queries, texts), rel=1e-3)


def test_an_objective_without_data_says_what_it_needs(model):
    empty = Corpus(texts=[], bitext=[], triplets=[], scored=[])
    for name, needed in {
        "simcse": "texts",
        "alignment": "en-ko pairs",
        "infonce": "triplets",
        "cosine": "scored",
    }.items():
        with pytest.raises(InputError, match=f"objective needs .*{needed}"):
            build(name, model, corpus=empty)
