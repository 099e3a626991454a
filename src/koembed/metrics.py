"""What is measured of a model: separation of labelled pairs, ranking of graded ones, retrieval across languages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sentence_transformers import SentenceTransformer

from koembed.models import vectors_by_length

Floats = NDArray[np.floating]

BLOCK = 1_024  # queries ranked at a time


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def encode(
    model: SentenceTransformer, texts: list[str], batch_size: int = 64, task: str | None = None
) -> NDArray[np.float32]:
    """float32 [texts, hidden], rows of length 1. Equal texts are encoded once.

    Args:
        task: a task adapter; or "query" or "document", which have prompts of their own and the retrieval adapter.
    """
    distinct = list(dict.fromkeys(texts))
    kinds = {"query": model.encode_query, "document": model.encode_document}
    options = {"task": task} if task and task not in kinds else {}
    vectors = vectors_by_length(model, kinds.get(task or "", model.encode), distinct, batch_size, **options)
    position = {text: row for row, text in enumerate(distinct)}
    return vectors[[position[text] for text in texts]]


def cosines(model: SentenceTransformer, pairs: list[tuple[str, str]], batch_size: int = 64) -> NDArray[np.float32]:
    """Cosine of each pair, [pairs]."""
    vectors = encode(model, [text for pair in pairs for text in pair], batch_size)
    return np.einsum("ij,ij->i", vectors[0::2], vectors[1::2])


def spearman(predicted: Floats, target: Floats) -> float:
    """Rank correlation, ties sharing their mean rank; 0 where one side is constant."""
    first, second = rankdata(predicted), rankdata(target)
    first, second = first - first.mean(), second - second.mean()
    norm = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / norm) if norm else 0.0


def auc(positive: Floats, negative: Floats) -> float:
    """Chance that a random positive scores above a random negative, ties counting half (Mann-Whitney U)."""
    ranks = rankdata(np.concatenate([positive, negative]))
    n = len(positive)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(negative)))


def retrieval_accuracy(queries: Floats, documents: Floats) -> Floats:
    """1.0 for each query whose own document is the nearest of all, else 0.0; rows of length 1, [n, hidden] both."""
    nearest = np.concatenate([(block @ documents.T).argmax(1) for block in _blocks(queries)])
    return (nearest == np.arange(len(queries))).astype(np.float64)


def reciprocal_ranks(scores: Floats) -> Floats:
    """1 / rank of each query's own document, the one in its column, [n].

    Of documents with one score, or none (NaN), the query's own comes last.

    Args:
        scores: of n queries and their n documents with each other, [n, n].

    Source: Voorhees 1999, "The TREC-8 question answering track report".

    >>> reciprocal_ranks(np.array([[0.9, 0.1, 0.1], [0.7, 0.5, 0.1], [0.3, 0.3, 0.3]])).round(2).tolist()
    [1.0, 0.5, 0.33]
    """
    return 1 / (len(scores) - (scores < np.diagonal(scores)[:, None]).sum(1))


def ndcg(queries: Floats, documents: Floats, relevant: NDArray[np.bool_], depth: int = 10) -> Floats:
    """nDCG at a depth, [queries]: ``sum_k relevant_k / log2(1 + k)`` over the first ranks, by the most it could be.

    Args:
        queries: [queries, hidden].
        documents: [documents, hidden].
        relevant: whether a document answers a query, [queries, documents], one or more in each row.
        depth: ranks that count. Of documents with one score, those that answer nothing come first.

    Source: Järvelin and Kekäläinen 2002.
    """
    pairs = zip(_blocks(queries), _blocks(relevant), strict=True)
    order = np.concatenate([np.lexsort((right, -(block @ documents.T)), axis=1)[:, :depth] for block, right in pairs])
    discount = 1 / np.log2(2.0 + np.arange(order.shape[1]))
    best = np.cumsum(discount)[np.minimum(relevant.sum(1), len(discount)) - 1]
    return np.take_along_axis(relevant, order, axis=1) @ discount / best


def _blocks(rows: NDArray) -> list[NDArray]:
    """Some rows at a time: scores of them all with all documents take memory by the square."""
    return [rows[start : start + BLOCK] for start in range(0, max(len(rows), 1), BLOCK)]


def passage_ndcg(model: SentenceTransformer, pairs: list[tuple[str, str]], batch_size: int = 64) -> Floats:
    """nDCG@10 of each distinct query of (query, passage that answers it) among all distinct passages, [queries].

    As ``encode_query`` and ``encode_document`` encode them: with their prompts, and the retrieval adapter if any.
    """
    relevant, queries, passages = relevance(pairs)
    found = encode(model, passages, batch_size, "document")
    return ndcg(encode(model, queries, batch_size, "query"), found, relevant)


def relevance(pairs: list[tuple[str, str]]) -> tuple[NDArray[np.bool_], list[str], list[str]]:
    """Which passage answers which query, [queries, passages], and the distinct queries and passages.

    >>> relevance([("what", "this"), ("which", "this")])
    (array([[ True],
           [ True]]), ['what', 'which'], ['this'])
    """
    queries, passages = (list(dict.fromkeys(side)) for side in zip(*pairs, strict=True))
    row, column = ({text: place for place, text in enumerate(side)} for side in (queries, passages))
    relevant = np.zeros((len(queries), len(passages)), bool)
    for query, passage in pairs:
        relevant[row[query], column[passage]] = True
    return relevant, queries, passages


def bootstrap(statistic: Callable[..., float], *groups: Floats, resamples: int, seed: int = 0) -> Interval:
    """Percentile interval of ``statistic(*groups)``, every group resampled on its own.

    A group is an array whose first axis is resampled: values that belong together are columns of one group.
    Source: Efron and Tibshirani 1993.
    """
    rng = np.random.default_rng(seed)
    draws = [
        statistic(*(group[rng.integers(len(group), size=len(group))] for group in groups)) for _ in range(resamples)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(float(statistic(*groups)), float(low), float(high))
