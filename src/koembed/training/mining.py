"""Hard negatives: for a labelled pair, the texts that a model takes for the anchor's next of kin, and that are not.

``sentence_transformers.util.mine_hard_negatives`` looks at the ten nearest texts for each negative it is asked for and
drops pairs that find none there. A model that is still weak ranks more than ten texts above many positives: of
KoPairs' triplets, with the quickstart's stage 1, it dropped 924 of 2,240. Here what is too near is masked before the
nearest are taken, and no pair is dropped.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from koembed.errors import InputError
from koembed.metrics import encode
from koembed.processes import processes
from koembed.storage import read_json, write_json

# Negatives are this share of the positive's cosine below it: TopK-PercPos, the best of NV-Retriever's rules.
MARGIN = 0.05

EXACT = 200_000  # texts that are searched whole; more are searched with FAISS
BLOCK = 2**25  # cosines held at once, 128 MB
NEAREST = 200  # texts that FAISS finds for an anchor, before those that are too near are left out

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Pool:
    """The texts that negatives are taken from.

    Attributes:
        texts: all distinct positives.
        rows: text -> its row in ``texts``.
        same: text of a pair -> rows of those known to mean the same, its own included.
    """

    texts: list[str]
    rows: dict[str, int]
    same: dict[str, set[int]]


def pool_of(pairs: list[tuple[str, str]]) -> Pool:
    """All positives of (anchor, positive) pairs."""
    texts = list(dict.fromkeys(positive for _, positive in pairs))
    rows = {text: row for row, text in enumerate(texts)}
    same: dict[str, set[int]] = defaultdict(set)
    for pair in pairs:
        known = {rows[text] for text in pair if text in rows}
        for text in pair:
            same[text] |= known
    return Pool(texts, rows, same)


def mined_once(
    model: SentenceTransformer,
    pairs: list[tuple[str, str]],
    count: int,
    seed: int,
    directory: Path,
    anchors: list[str],
    positives: list[str],
    retrieves: bool = False,
) -> list[list[str]]:
    """Columns of hard negatives, ``count`` of them, a text for each anchor; none where ``count`` is 0.

    They are kept below ``directory``, so that a training that was killed continues on the negatives it began with, and
    all processes of a training have those of the first.

    Args:
        model: as it stands: the stage before.
        pairs: all that the corpus has, these anchors and positives among them.
        retrieves: anchors are queries and positives the documents that answer them.

    Raises:
        InputError: the pairs are too few, or so many that FAISS is needed and not installed.
    """
    if not count:
        return []
    pool = pool_of(pairs)
    key = hashlib.sha256(f"{count} {seed} {len(anchors)}".encode())
    for text in chain(anchors, positives, pool.texts):
        key.update(f"\0{text}".encode())
    file = directory / f"mined-{key.hexdigest()[:12]}.json"
    with processes().main_process_first():
        if not file.exists():
            write_json(file, {"columns": mine(model, anchors, positives, pool, count, seed, retrieves).T.tolist()})
    return [[pool.texts[row] for row in column] for column in read_json(file)["columns"]]


def mine(
    model: SentenceTransformer,
    anchors: list[str],
    positives: list[str],
    pool: Pool,
    count: int,
    seed: int = 0,
    retrieves: bool = False,
) -> Rows:
    """Rows of ``pool.texts`` for each anchor, hardest first; int64 [anchors, count].

    A negative is none of the texts known to mean the same as the anchor, and its cosine with the anchor is at least
    5 % below that of the anchor and its positive. Among those the nearest are taken. Anchors that have too few are
    given strangers drawn at random, which hardly ever mean the same.

    Raises:
        InputError: the pool has fewer texts than that, or so many that FAISS is needed and not installed.

    Source: Moreira et al. 2024, "NV-Retriever: improving text embedding models with effective hard-negative mining".
    """
    same = [pool.same[anchor] for anchor in anchors]
    if (others := len(pool.texts) - max(map(len, same))) < count:
        raise InputError(f"hard_negatives={count}: some anchors have only {others} other texts; lower it or add pairs")
    tasks = ("query", "document") if retrieves else (None, None)
    queries, texts = (encode(model, side, task=task) for side, task in zip((anchors, pool.texts), tasks, strict=True))
    own = np.einsum("ij,ij->i", queries, texts[[pool.rows[positive] for positive in positives]])
    limits = own - MARGIN * np.abs(own)
    search = nearest_exact if len(texts) <= EXACT else nearest_approximate
    found = search(queries, texts, limits, same, count)
    _top_up(found, same, len(texts), np.random.default_rng(seed))
    return found


def nearest_exact(queries: Vectors, texts: Vectors, limits: Vectors, same: list[set[int]], count: int) -> Rows:
    """The nearest admissible rows of ``texts``, -1 where there are no more; [queries, count]."""
    found = np.empty((len(queries), count), np.int64)
    step = max(1, BLOCK // len(texts))
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        cosines = torch.from_numpy(queries[block] @ texts.T)
        cosines[cosines > torch.from_numpy(limits[block])[:, None]] = -torch.inf
        for row, known in zip(cosines, same[block], strict=True):
            row[list(known)] = -torch.inf
        nearest = cosines.topk(count)
        found[block] = nearest.indices.masked_fill(nearest.values == -torch.inf, -1).numpy()
    return found


def nearest_approximate(queries: Vectors, texts: Vectors, limits: Vectors, same: list[set[int]], count: int) -> Rows:
    """As ``nearest_exact``, among the ``NEAREST`` that an inverted file index finds (Jégou, Douze and Schmid 2011).

    FAISS's rule of thumb has 4 sqrt(texts) lists; of these an eighth is searched.
    """
    index = _index(texts)
    found = np.full((len(queries), count), -1)
    for place, (cosines, rows) in enumerate(zip(*index.search(queries, min(NEAREST, len(texts))), strict=True)):
        near = [row for row in rows[cosines <= limits[place]].tolist() if row >= 0 and row not in same[place]][:count]
        found[place, : len(near)] = near
    return found


def _index(texts: Vectors) -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            f"hard_negatives among {len(texts):,} texts (over {EXACT:,}): pip install faiss-cpu, or use fewer pairs"
        ) from error
    lists = round(4 * len(texts) ** 0.5)
    index: Any = faiss.index_factory(texts.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(texts)
    index.add(texts)
    index.nprobe = max(1, lists // 8)
    return index


def _top_up(found: Rows, same: list[set[int]], texts: int, rng: np.random.Generator) -> None:
    """Replace every -1 by a random row that is neither there already nor known to mean the same, in place."""
    for row in np.flatnonzero((found < 0).any(1)):
        taken = same[row] | set(found[row].tolist())
        for place in np.flatnonzero(found[row] < 0):
            while (stranger := int(rng.integers(texts))) in taken:
                pass
            taken.add(stranger)
            found[row, place] = stranger
