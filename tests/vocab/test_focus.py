from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from tokenizers import Tokenizer, models, pre_tokenizers

from koembed.errors import InputError
from koembed.vocab.focus import WINDOW, cooccurrences, initialize_focus, positive_pmi, sparsemax, static_vectors
from koembed.vocab.learned import Learned

VOCAB = ["[UNK]", "red", "##dish", "blue", "car", "tree", "leaf", "fast", "odd", "정", "##원"]
NEW = ["빨강", "나무", "정원", "희귀"]
# 빨강 is used as "red" is and 나무 as "tree"; 희귀 is rare.
TEXTS = [
    *["a reddish car fast", "a 빨강 car fast", "blue leaf tree odd", "blue leaf 나무 odd", "정원 fast blue"] * 6,
    "희귀 car",
]


def word_level(tokens: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({token: row for row, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def test_cooccurrences_equal_a_plain_count():
    base, grown = word_level(VOCAB), word_level(VOCAB + NEW)
    counts, totals = cooccurrences([base, grown], TEXTS)
    expected, occurrences, neighbours = Counter(), Counter(), Counter()
    for text in TEXTS:
        words = text.split()
        cuts = [[tokenizer.encode(word).ids for word in words] for tokenizer in (base, grown)]
        neighbours.update(token for ids in cuts[1] for token in ids)
        for cut in cuts:
            for at, ids in enumerate(cut):
                occurrences.update(ids)
                around = [*cuts[1][max(0, at - WINDOW) : at], *cuts[1][at + 1 : at + 1 + WINDOW]]
                expected.update((token, other) for token in ids for others in around for other in others)
    contexts = sorted(neighbours)
    assert dict(enumerate(totals)) == {token: occurrences[token] for token in range(len(VOCAB + NEW))}
    np.testing.assert_array_equal(
        counts.toarray(), [[expected[token, other] for other in contexts] for token in range(len(VOCAB + NEW))]
    )


def test_positive_pmi_equals_the_formula_in_float64():
    counts = np.array([[3, 0, 1], [10, 2, 0], [0, 0, 0]], np.float64)
    smooth = counts.sum(0) ** 0.75 / (counts.sum(0) ** 0.75).sum()
    expected = np.zeros((3, 3))
    for row, column in np.argwhere(counts):
        expected[row, column] = max(0, np.log(counts[row, column] / counts[row].sum() / smooth[column]))
    found = positive_pmi(sparse.csr_matrix(counts.astype(np.float32)))
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-5)
    assert found.nnz == np.count_nonzero(expected)


def test_static_vectors_have_the_cosines_of_the_exact_decomposition():
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(0.7, (30, 12)).astype(np.float32))
    left, values, _ = np.linalg.svd(positive_pmi(counts).toarray().astype(np.float64), full_matrices=False)
    exact = (left * np.sqrt(values))[:, :12]
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    found = static_vectors(counts, 12, seed=0)
    np.testing.assert_allclose(found @ found.T, exact @ exact.T, atol=1e-4)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=12))
def test_sparsemax_is_the_nearest_point_of_the_simplex(scores):
    weights = sparsemax(torch.tensor([scores], dtype=torch.float64))[0].numpy()
    low, high = min(scores) - 1, max(scores)
    for _ in range(80):  # the threshold at which what exceeds it sums to one, by bisection
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(np.array(scores) - middle, 0).sum() > 1 else (low, middle)
    np.testing.assert_allclose(weights, np.maximum(np.array(scores) - low, 0), atol=1e-9)


def rows_of(weight: torch.Tensor, texts: list[str] = TEXTS) -> torch.Tensor:
    live = torch.tensor([True] * len(VOCAB) + [False] * 3)
    live[VOCAB.index("odd")] = False
    fallback = torch.full((len(NEW), weight.shape[1]), -1.0)
    return initialize_focus(word_level(VOCAB), weight, live, Learned(NEW, NEW), texts, fallback, seed=0)


def test_a_new_token_takes_after_the_tokens_that_are_used_like_it():
    weight = torch.eye(len(VOCAB) + 3)
    rows = rows_of(weight)
    assert rows[0].argmax() in (VOCAB.index("red"), VOCAB.index("##dish"))
    assert rows[1].argmax() == VOCAB.index("tree")
    # 정원 stands where the base's own pieces of it do.
    assert set(rows[2].topk(2).indices.tolist()) == {VOCAB.index("정"), VOCAB.index("##원")}
    torch.testing.assert_close(rows[:3].sum(1), torch.ones(3))


def test_rare_tokens_fall_back_and_dead_rows_are_no_anchors():
    weight = torch.eye(len(VOCAB) + 3)
    rows = rows_of(weight)
    assert (rows[3] == -1).all()
    assert not rows[:3, [VOCAB.index("odd"), *range(len(VOCAB), len(weight))]].any()


def test_the_same_corpus_gives_the_same_rows():
    weight = torch.randn(len(VOCAB) + 3, 4)
    assert torch.equal(rows_of(weight), rows_of(weight))


def test_a_corpus_without_the_base_tokens_is_refused():
    with pytest.raises(InputError, match="no token of the base"):
        rows_of(torch.eye(len(VOCAB) + 3), ["빨강"])
