"""First rows of new tokens out of the base's rows of tokens that are used alike in the corpus (FOCUS).

Each new token becomes a sparse mean of the base's tokens, weighted by the sparsemax of their cosines in static vectors.
FOCUS trains those with fastText on the corpus as the new tokenizer cuts it. Here they come from counts, without
training: the positive pointwise mutual information of a token with the tokens of the words around it, reduced by a
truncated SVD. Tokens of both the old cut and the new are counted in the same places against the same neighbours, so
the base's Korean tokens get vectors too where new ones have taken their place.

Sources: Dobler and de Melo 2023 (FOCUS); Martins and Astudillo 2016 (sparsemax); Levy and Goldberg 2014, "Neural word
embedding as implicit matrix factorization"; Levy, Goldberg and Dagan 2015 (smoothed contexts, the square root of the
singular values).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from tokenizers import Tokenizer
from torch import Tensor

from koembed.errors import InputError
from koembed.vocab.graft import compose_hangul
from koembed.vocab.learn import family
from koembed.vocab.learned import Learned

TEXTS = 50_000  # counted at most: memory grows with them
WINDOW = 3  # words to either side whose tokens are neighbours
FREQUENCY = 5  # occurrences that give a token a vector worth having
CONTEXTS = 10_000  # most frequent neighbours that are told apart
DIMENSIONS = 128
SMOOTHING = 0.75  # power of the neighbours' frequencies: tones down rare ones
BLOCK = 1024  # new tokens compared with the anchors at a time

WORD = re.compile(r"\S+")


def initialize_focus(
    base: Tokenizer, weight: Tensor, live: Tensor, learned: Learned, texts: Sequence[str], fallback: Tensor, seed: int
) -> Tensor:
    """Sparse means of the rows of the base's tokens in the corpus (anchors) that are used most alike.

    Args:
        base: the tokenizer before expansion.
        weight: its input matrix, float32 [rows, hidden].
        live: rows that may be used, bool [rows].
        texts: the corpus, shuffled; its first 50,000 texts are counted.
        fallback: rows of new tokens that occur fewer than five times, float32 [new, hidden].
        seed: of the randomised SVD.

    Returns:
        float32 [new, hidden].

    Raises:
        InputError: no token of the base occurs five times.
    """
    composed = compose_hangul(base)
    grown = family(composed)[1](composed, learned)
    new = np.array([grown.token_to_id(token) for token in learned.tokens])
    counts, frequencies = cooccurrences([base, grown], texts[:TEXTS])
    frequent = frequencies >= FREQUENCY
    usable = np.zeros(len(frequencies), bool)
    usable[: new.min()] = live[: new.min()].numpy()
    anchors = np.flatnonzero(usable & frequent)
    if not len(anchors):
        raise InputError("vocab.initializer=focus: no token of the base occurs five times in data.texts; add texts")
    vectors = torch.from_numpy(static_vectors(counts, DIMENSIONS, seed))
    rows = fallback.clone()
    chosen = np.flatnonzero(frequent[new])
    for start in range(0, len(chosen), BLOCK):
        block = chosen[start : start + BLOCK]
        rows[block] = sparsemax(vectors[new[block]] @ vectors[anchors].T) @ weight[anchors]
    return rows


def cooccurrences(tokenizers: Sequence[Tokenizer], texts: Sequence[str]) -> tuple[sparse.csr_matrix, NDArray[np.int64]]:
    """How often each token, as any of the tokenizers cuts the texts, has each token of the last one as a neighbour.

    Neighbours are the tokens of up to ``WINDOW`` words (split at white space) before and after a token's own word.

    Returns:
        float32 [ids, contexts], contexts being the most frequent tokens; and the occurrences of each id.
    """
    starts = [np.array([word.start() for word in WORD.finditer(text)], np.int64) for text in texts]
    size = 1 + max(max(tokenizer.get_vocab().values()) for tokenizer in tokenizers)
    occurrences = [_occurrences(tokenizer, texts, starts, size) for tokenizer in tokenizers]
    neighbours = occurrences[-1]
    totals = np.asarray(neighbours.sum(1)).ravel()
    contexts = np.sort(np.argsort(-totals, kind="stable")[:CONTEXTS])
    contexts = contexts[totals[contexts] > 0]
    places = neighbours.shape[1]
    steps = [step for step in range(-WINDOW, WINDOW + 1) if step]
    around = sparse.diags([np.ones(places - abs(step), np.float32) for step in steps], steps, (places, places), "csr")
    together = sum(occurrences[1:], occurrences[0])
    counts = together @ (around @ neighbours[contexts].T.tocsr())
    return counts.tocsr(), np.asarray(together.sum(1)).ravel().astype(np.int64)


def _occurrences(
    tokenizer: Tokenizer, texts: Sequence[str], starts: Sequence[NDArray[np.int64]], size: int
) -> sparse.csr_matrix:
    """Which token occurs in which word: counts, float32 [size, words and gaps]; a gap parts text from text."""
    ids, places = [], []
    first = 0
    for encoded, words in zip(tokenizer.encode_batch(list(texts), add_special_tokens=False), starts, strict=True):
        if encoded.ids:
            last_characters = np.array(encoded.offsets)[:, 1] - 1
            ids.append(np.array(encoded.ids))
            places.append(first + np.maximum(np.searchsorted(words, last_characters, side="right") - 1, 0))
        first += len(words) + WINDOW
    row, column = np.concatenate(ids), np.concatenate(places)
    return sparse.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=(size, first))


def static_vectors(counts: sparse.csr_matrix, dimensions: int, seed: int) -> NDArray[np.float32]:
    """Vectors of length 1 for the rows of a table of co-occurrences; zero for a row without any. [rows, dimensions]"""
    information = positive_pmi(counts)
    dimensions = min(dimensions, *information.shape)
    left, values, _ = randomized_svd(information, dimensions, random_state=seed)
    vectors = left * np.sqrt(values)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0).astype(np.float32)


def positive_pmi(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """``max(0, log(p(row, column) / (p(row) p'(column))))``, p' being column frequencies to the power 0.75; sparse."""
    cells = counts.tocoo()
    row_sums = np.asarray(counts.sum(1)).ravel().astype(np.float64)
    column_weights = np.asarray(counts.sum(0)).ravel().astype(np.float64) ** SMOOTHING
    column_shares = column_weights / column_weights.sum()
    pmi = np.log(cells.data / (row_sums[cells.row] * column_shares[cells.col]))
    positive = sparse.csr_matrix((np.maximum(pmi, 0).astype(np.float32), (cells.row, cells.col)), cells.shape)
    positive.eliminate_zeros()
    return positive


def sparsemax(scores: Tensor) -> Tensor:
    """The point of the simplex nearest to each row: weights in sum 1, zero for low scores; float32 [n, m].

    >>> sparsemax(torch.tensor([[0.9, 0.5, -1.0]]))
    tensor([[0.7000, 0.3000, 0.0000]])
    """
    ordered = scores.sort(dim=1, descending=True).values
    ranks = torch.arange(1, scores.shape[1] + 1)
    support = (1 + ranks * ordered > ordered.cumsum(1)).sum(1, keepdim=True)
    threshold = (ordered.cumsum(1).gather(1, support - 1) - 1) / support
    return (scores - threshold).clamp(min=0)
