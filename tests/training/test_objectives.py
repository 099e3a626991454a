"""Every objective against its formula in float64, on the vectors that a float64 model gives."""

from typing import get_args

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from conftest import PAIRS
from koembed.config import ObjectiveName, Training
from koembed.corpus.data import Corpus
from koembed.errors import InputError
from koembed.metrics import encode
from koembed.models import backbone
from koembed.training.objectives import OBJECTIVES, Objective
from support import LONG, PASSAGES, built, context

REL = 1e-6  # labels are float32, everything else float64


@pytest.fixture(scope="module")
def model(bert_directory) -> SentenceTransformer:
    return SentenceTransformer(str(bert_directory), device="cpu").double().eval()


def loss_of(objective: Objective, model: SentenceTransformer) -> torch.Tensor:
    """The loss of all examples as one batch."""
    dataset = objective.dataset
    columns = [name for name in dataset.column_names if name != "label"]
    features = [model.preprocess(list(dataset[name])) for name in columns]
    labels = torch.tensor(dataset["label"][:]) if "label" in dataset.column_names else None
    return objective.loss_of(model, features, labels)


def close(objective: Objective, model: SentenceTransformer, expected: float) -> bool:
    with torch.no_grad():
        return float(loss_of(objective, model)) == pytest.approx(expected, rel=REL)


def vectors(objective: Objective, model: SentenceTransformer, *columns: str) -> list[np.ndarray]:
    """float64 [examples, hidden] for each column, rows of length 1."""
    texts = [list(objective.dataset[column]) for column in columns]
    with torch.no_grad():
        return [model(model.preprocess(column))["sentence_embedding"].numpy() for column in texts]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def infonce(anchors: np.ndarray, candidates: np.ndarray, temperature: float = 0.05) -> float:
    """-mean log softmax of each anchor's own candidate."""
    scores = anchors @ candidates.T / temperature
    return float(np.mean(np.log(np.exp(scores).sum(1)) - np.diag(scores)))


def cosines(objective: Objective, model: SentenceTransformer) -> tuple[np.ndarray, np.ndarray]:
    first, second = vectors(objective, model, "sentence1", "sentence2")
    return (first * second).sum(1), np.array(objective.dataset["label"])


def test_simcse(model):
    objective = built("simcse", model)
    assert objective.needs_dropout
    assert objective.dataset["sentence1"] == objective.dataset["sentence2"]
    (same,) = vectors(objective, model, "sentence1")
    assert close(objective, model, infonce(same, same))


def test_infonce_with_hard_negatives(model):
    objective = built("infonce", model)
    anchors, *candidates = vectors(objective, model, "anchor", "positive", "hard_negative")
    assert close(objective, model, infonce(anchors, np.concatenate(candidates)))


def test_mined_negatives_are_columns_of_their_own(model):
    def mine(anchors: list[str], positives: list[str]) -> list[list[str]]:
        return [positives[1:] + positives[:1], positives[2:] + positives[:2]]

    for name, columns in {
        "infonce": ("anchor", "positive", "hard_negative", "mined1", "mined2"),
        "passages": ("query", "passage", "mined1", "mined2"),
    }.items():
        objective = built(name, model, mine=mine)
        assert tuple(objective.dataset.column_names) == columns
        anchors, *candidates = vectors(objective, model, *columns)
        assert close(objective, model, infonce(anchors, np.concatenate(candidates)))


def test_passages(model):
    objective = built("passages", model)
    assert sorted(zip(objective.dataset["query"], objective.dataset["passage"], strict=True)) == sorted(PASSAGES)
    assert close(objective, model, infonce(*vectors(objective, model, "query", "passage")))


def test_translation_goes_both_ways(model):
    objective = built("translation", model)
    korean, english = vectors(objective, model, "ko", "en")
    assert close(objective, model, (infonce(korean, english) + infonce(english, korean)) / 2)


def test_span_cuts_queries_out_of_their_texts(model):
    objective = built("span", model)
    for query, rest in zip(objective.dataset["query"], objective.dataset["text"], strict=True):
        source = next(
            text for text in LONG if query in text and (rest == text or set(rest.split()) <= set(text.split()))
        )
        words = len(source.split())
        assert words // 3 <= len(query.split()) <= words // 2
    assert close(objective, model, infonce(*vectors(objective, model, "query", "text")))


def test_the_settings_reach_the_contrastive_loss(model):
    settings = Training(temperature=0.2, learn_temperature=True, false_negative_margin=-2.0)
    objective = built("infonce", model, settings=settings)
    anchors, *candidates = vectors(objective, model, "anchor", "positive", "hard_negative")
    assert close(objective, model, infonce(anchors, np.concatenate(candidates), 0.2))  # a margin of -2 masks nothing
    assert any(parameter is objective.loss.warmth for parameter in objective.loss.parameters())
    settings = Training(false_negative_margin=3.0)
    assert close(built("infonce", model, settings=settings), model, 0.0)  # 3 leaves the positive alone


@pytest.mark.parametrize(
    ("name", "columns"), [("alignment", ("ko", "en")), ("healing", ("ko",)), ("retention", ("en",))]
)
def test_texts_are_drawn_to_the_bases_vectors(model, name, columns):
    objective = built(name, model)
    target = context(model).teach(list(objective.dataset[columns[-1]])).astype(np.float64)
    expected = np.mean([1 - (side * unit(target)).sum(1) for side in vectors(objective, model, *columns)])
    assert close(objective, model, expected)


def test_the_bases_vectors_go_with_their_rows(model):
    """Batches are shuffled: the label, not the place in the batch, says which vector is meant."""
    objective = built("alignment", model)
    with torch.no_grad():
        shuffled = Objective(objective.dataset.select([2, 0, 1]), objective.loss)
        assert close(shuffled, model, float(loss_of(objective, model)))


def test_healing_takes_korean_and_retention_english(model):
    assert set(built("healing", model).dataset["ko"]) == set(LONG)
    assert set(built("retention", model).dataset["en"]) == {english for english, _ in PAIRS}


def test_cosine_regression(model):
    objective = built("cosine", model)
    predicted, labels = cosines(objective, model)
    assert close(objective, model, np.mean((predicted - labels) ** 2))


def test_cosine_regression_asks_for_more_than_the_scores(model):
    """The error is to scores that lie a half further from 1/2: 0 becomes -1/4, 1 becomes 5/4."""
    plain, spread = (built("cosine", model, settings=Training(spread=spread)) for spread in (0.0, 0.5))
    predicted, scores = cosines(plain, model)
    assert close(spread, model, np.mean((predicted - (1.5 * scores - 0.25)) ** 2))


def test_correlation(model):
    objective = built("correlation", model)
    assert close(objective, model, (1 - np.corrcoef(*cosines(objective, model))[0, 1]) / 10)


def test_distillation(model):
    """Here the model is its own teacher, calibrated: unrelated texts at 0."""
    objective = built("distillation", model)
    pairs = list(zip(objective.dataset["sentence1"], objective.dataset["sentence2"], strict=True))
    assert all(first != second for first, second in pairs)
    first, second = vectors(objective, model, "sentence1", "sentence2")
    unrelated = (first @ first.T)[np.triu_indices(len(first), 1)].mean()
    both = np.concatenate([first, second])
    student = both @ both.T
    error = student - (student - unrelated) / (1 - unrelated)
    apart = ~np.eye(len(both), dtype=bool)
    expected = np.mean(np.diag(error[: len(first), len(first) :]) ** 2) + np.mean(error[apart] ** 2)
    with torch.no_grad():
        assert float(loss_of(objective, model)) == pytest.approx(expected, rel=1e-3)  # its arithmetic is float32


def test_distillation_relative_to_each_other(model):
    """Pearson's correlation of the student's similarities and the teacher's, which here is the model after its map."""
    other = np.random.default_rng(0).normal(size=(32, 32))

    def teach(texts: list[str]) -> np.ndarray:
        return unit(encode(model, texts) @ other).astype(np.float32)

    objective = built("distillation", model, settings=Training(similarities="relative"), teachers=[teach])
    columns = [list(objective.dataset[column]) for column in ("sentence1", "sentence2")]
    n, taught = len(columns[0]), unit(teach(columns[0] + columns[1]).astype(np.float64))
    both = np.concatenate(vectors(objective, model, "sentence1", "sentence2"))
    seen, graded = both @ both.T, taught @ taught.T
    upper = np.triu_indices(2 * n, 1)
    pearson = [
        np.corrcoef(np.diag(seen[:n, n:]), np.diag(graded[:n, n:]))[0, 1],
        np.corrcoef(seen[upper], graded[upper])[0, 1],
    ]
    with torch.no_grad():
        assert float(loss_of(objective, model)) == pytest.approx(sum(1 - r for r in pearson) / 10, rel=1e-3)


def test_crosslingual(model):
    """The teacher, here the model itself, grades the English sides; the student has the Korean ones to grade alike."""
    objective = built("crosslingual", model)
    english = {korean: english for english, korean in PAIRS}
    first, second = (list(objective.dataset[column]) for column in ("sentence1", "sentence2"))
    assert sorted(first) == sorted(english) and set(second) <= set(english)
    graded = encode(model, [english[text] for text in first + second]).astype(np.float64)
    unrelated = (graded[: len(first)] @ graded[: len(first)].T)[np.triu_indices(len(first), 1)].mean()
    both = np.concatenate(vectors(objective, model, "sentence1", "sentence2"))
    error = both @ both.T - (graded @ graded.T - unrelated) / (1 - unrelated)
    apart = ~np.eye(len(both), dtype=bool)
    expected = np.mean(np.diag(error[: len(first), len(first) :]) ** 2) + np.mean(error[apart] ** 2)
    with torch.no_grad():
        assert float(loss_of(objective, model)) == pytest.approx(expected, rel=1e-3)  # its arithmetic is float32


@pytest.mark.parametrize(("name", "source"), [("distillation", "data.texts"), ("crosslingual", "data.bitext")])
def test_one_text_has_no_similarity_to_learn(model, name, source):
    corpus = Corpus(texts=LONG[:1], bitext=PAIRS[:1], triplets=[], scored=[], passages=[])
    with pytest.raises(InputError, match=f"{source} has one text"):
        built(name, model, corpus)


def ranking(scores: np.ndarray, labels: np.ndarray) -> float:
    """CoSENT's loss of any similarity."""
    pairs = [(low, high) for low in range(6) for high in range(6) if labels[high] > labels[low]]
    return float(np.log(1 + sum(np.exp(20 * (scores[low] - scores[high])) for low, high in pairs)))


def test_cosent(model):
    objective = built("cosent", model)
    assert close(objective, model, ranking(*cosines(objective, model)))


def test_angle(model):
    objective = built("angle", model)
    first, second = (side[:, :16] + 1j * side[:, 16:] for side in vectors(objective, model, "sentence1", "sentence2"))
    products = first * second.conj()
    scores = np.abs((products.real + products.imag).sum(1))
    assert close(objective, model, ranking(scores, np.array(objective.dataset["label"])))


def test_triplet(model):
    objective = built("triplet", model)
    anchors, positives, negatives = vectors(objective, model, "anchor", "positive", "hard_negative")
    margins = (anchors * negatives).sum(1) - (anchors * positives).sum(1) + 0.2
    assert close(objective, model, np.maximum(margins, 0).mean())


def test_matryoshka_adds_the_loss_of_the_first_dimensions(model):
    objective = built("infonce", model, settings=Training(matryoshka=[8, 16]))
    columns = vectors(objective, model, "anchor", "positive", "hard_negative")
    expected = 0.0
    for width in (8, 16, 32):
        anchors, *candidates = (unit(column[:, :width]) for column in columns)
        expected += infonce(anchors, np.concatenate(candidates))
    assert close(objective, model, expected)


def test_matryoshka_leaves_what_is_drawn_to_the_bases_vectors(model):
    plain = built("healing", model)
    objective = built("healing", model, settings=Training(matryoshka=[8]))
    with torch.no_grad():
        assert close(objective, model, float(loss_of(plain, model)))


def test_matryoshka_needs_smaller_dimensions(model):
    with pytest.raises(InputError, match="32 is not below the model's 32 dimensions"):
        built("cosine", model, settings=Training(matryoshka=[8, 32]))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_columns_of_about_one_length_share_a_forward_pass(model, name):
    objective = built(name, model)
    rows: list[int] = []
    embeddings = backbone(model).get_input_embeddings()
    handle = embeddings.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    loss_of(objective, model)
    handle.remove()
    columns = [column for column in objective.dataset.column_names if column != "label"]
    apart = [1, len(columns) - 1] if name in ("span", "passages") else [len(columns)]
    assert rows == [len(objective.dataset) * count for count in apart]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_reach_only_what_trains(bert_directory, name):
    model = SentenceTransformer(str(bert_directory), device="cpu").eval().requires_grad_(False)
    last = model[0].model.encoder.layer[1].requires_grad_(True)
    objective = built(name, model, settings=Training(learn_temperature=True, false_negative_margin=0.0))
    loss_of(objective, model).backward()
    reached = {parameter for parameter in objective.loss.parameters() if parameter.grad is not None}
    own = {parameter for parameter in objective.loss.parameters() if parameter not in set(model.parameters())}
    assert reached == set(last.parameters()) | own
    assert all(parameter.grad.isfinite().all() for parameter in reached)
    assert any(parameter.grad.abs().sum() > 0 for parameter in last.parameters())


@pytest.mark.parametrize(
    ("name", "needed"),
    {
        "simcse": "texts",
        "healing": "texts",
        "alignment": "en-ko pairs",
        "retention": "en-ko pairs",
        "infonce": "triplets",
        "cosine": "scored",
        "angle": "scored",
        "passages": "queries with passages",
    }.items(),
)
def test_an_objective_without_data_says_what_it_needs(model, name, needed):
    with pytest.raises(InputError, match=f"objective {name} needs .*{needed}"):
        built(name, model, corpus=Corpus(texts=[], bitext=[], triplets=[], scored=[]))


def test_configs_name_the_objectives_there_are():
    assert list(get_args(ObjectiveName)) == list(OBJECTIVES)
