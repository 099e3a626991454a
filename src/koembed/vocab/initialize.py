"""Give the rows of new tokens their first values.

Rows of the base that were never trained are no example to follow: those of no token (matrices are padded to a multiple
of 64 or more) and those of next to no length are left out of every mean, every moment and every source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from koembed.config import Vocab
from koembed.corpus.spaces import semantic_space
from koembed.errors import InputError
from koembed.models import DEAD_ROW, Encoder
from koembed.vocab.bpe import read_base
from koembed.vocab.focus import initialize_focus
from koembed.vocab.learned import Learned

RATE = -2.0  # of the position weights, a subtoken: Korean words begin with their stem
BASE_WORD = re.compile("[A-Za-z]{2,}|[가-힣]{2,}")
BLOCK = 1024  # surfaces compared with the base's words at a time


def first_rows(
    base: Tokenizer, weight: Tensor, learned: Learned, texts: Sequence[str], settings: Vocab, seed: int
) -> Tensor:
    """First rows of the new tokens, float32 [new, hidden], by ``settings.initializer``.

    Byte-level tokens that end within a character have no text to go by: they get the mean of their two parts.

    Args:
        base: the tokenizer before expansion.
        weight: its input matrix, float32 [rows, hidden]; it may have more rows than the tokenizer has ids.
        learned: the new tokens.
        texts: the corpus, which `focus` counts tokens in.
        seed: of `random` and of `focus`.

    Raises:
        InputError: `semantic` and `distill` find no word of the base, or `focus` no token of it in the corpus.
    """
    live = live_rows(base, weight)
    if settings.initializer == "random":
        return initialize_random(weight[live], len(learned.tokens), seed)
    if settings.initializer in ("semantic", "distill"):  # the latter is trained later, from the best start there is
        sources = {word: row for word, row in base_words(base).items() if live[row]}
        encode = semantic_space(settings.semantic_space)
        rows = initialize_semantic(
            sources, weight, learned.surfaces, encode, settings.top_k, settings.temperature, settings.csls
        )
    else:
        named = zip(learned.tokens, learned.surfaces, strict=True)
        pieces = [subtokens(base, token, surface) for token, surface in named]
        weigh = position_weights if settings.initializer == "position" else equal_weights
        rows = initialize_mean(weight, live, pieces, weigh)
        if settings.initializer == "focus":
            rows = initialize_focus(base, weight, live, learned, texts, rows, seed)
    return join_parts(base, weight, live, learned, rows)


def live_rows(base: Tokenizer, weight: Tensor) -> Tensor:
    """Which rows of a matrix [rows, hidden] belong to a token and have been trained; bool [rows].

    Weight decay draws the row of a token that training never met to zero, and padding starts there.
    """
    named = torch.zeros(len(weight), dtype=torch.bool)
    named[list(base.get_vocab(with_added_tokens=True).values())] = True
    norms = weight.norm(dim=1)
    return named & (norms > DEAD_ROW * norms[named].median())


def subtokens(base: Tokenizer, token: str, surface: str) -> list[int]:
    """Ids that the base cuts a new token into.

    The token itself goes to the model, so that an inner piece gets no word-start mark; in WordPiece its text does,
    since the base's normaliser decomposes Hangul.
    """
    if type(base.model).__name__ == "WordPiece":
        return base.encode(surface, add_special_tokens=False).ids
    return [piece.id for piece in base.model.tokenize(token)]


def equal_weights(count: int) -> Tensor:
    """The same weight for each of a token's subtokens, in sum 1; float32 [count]."""
    return torch.full((count,), 1 / count)


def position_weights(count: int) -> Tensor:
    """Weights in proportion to ``exp(-2 * position)``, in sum 1: the first subtoken counts most; float32 [count].

    AdaptiVocab weights a token's parts by ``exp(2 * position)`` where a decoder goes on from the last of them, and by
    ``exp(-2 * position)`` where it has to find the first. A sentence encoder goes on from nothing, and a Korean word
    has its stem first and its endings last.

    Source: Nakash et al. 2025, "AdaptiVocab", section 3.3.
    """
    return torch.softmax(RATE * torch.arange(count, dtype=torch.float32), dim=0)


def initialize_mean(
    weight: Tensor, live: Tensor, pieces: Sequence[list[int]], weigh: Callable[[int], Tensor] = equal_weights
) -> Tensor:
    """The weighted mean of the base's rows that each new token was cut into; of all rows where it had none.

    Args:
        weight: float32 [rows, hidden].
        live: rows that may be used, bool [rows].
        pieces: ids of the base for each new token.
        weigh: how much each of a number of subtokens counts, by position.

    Returns:
        float32 [len(pieces), hidden].

    Source: Hewitt 2021, "Initializing new word embeddings for pretrained language models".
    """
    everything = weight[live].mean(0)
    used = [[row for row in ids if live[row]] for ids in pieces]
    return torch.stack([weigh(len(ids)) @ weight[ids] if ids else everything for ids in used])


def initialize_random(weight: Tensor, count: int, seed: int) -> Tensor:
    """Normal rows with the mean and the standard deviation of each column of the base; float32 [count, hidden]."""
    noise = torch.randn(count, weight.shape[1], generator=torch.Generator().manual_seed(seed))
    return weight.mean(0) + noise * weight.std(0)


def join_parts(base: Tokenizer, weight: Tensor, live: Tensor, learned: Learned, rows: Tensor) -> Tensor:
    """The rows, those of tokens without a text replaced by the mean of the two parts that a merge makes them from.

    Parts are tokens of the base or earlier new ones, so one pass in the order of the tokens is enough.
    """
    parts: dict[str, tuple[str, str]] = {}
    for left, right in learned.merges:
        parts.setdefault(left + right, (left, right))
    known = {token: weight[row] for token, row in base.get_vocab().items() if live[row]}
    everything = weight[live].mean(0)
    joined = rows.clone()
    for number, (token, surface) in enumerate(zip(learned.tokens, learned.surfaces, strict=True)):
        if not surface:
            both = [known[part] for part in parts[token] if part in known]
            joined[number] = torch.stack(both).mean(0) if both else everything
        known[token] = joined[number]
    return joined


def base_words(base: Tokenizer) -> dict[str, int]:
    """Whole words of the base's vocabulary, English and Korean, as people read them, and their ids.

    Of the tokens that differ only in case or in the mark of a word's start the marked one is taken, then the
    lower-case one.
    """
    byte_level = read_base(base).text if type(base.model).__name__ == "BPE" else None
    best: dict[str, tuple[bool, bool, str, int]] = {}
    for token, row in base.get_vocab(with_added_tokens=False).items():
        text = byte_level(token) if byte_level else token.replace("▁", " ")
        word = text.removeprefix(" ")
        if BASE_WORD.fullmatch(word):
            candidate = (text == word, word != word.lower(), word, row)
            best[word.lower()] = min(candidate, best.get(word.lower(), candidate))
    return {word: row for _, _, word, row in sorted(best.values(), key=lambda found: found[3])}


def initialize_semantic(
    sources: dict[str, int],
    weight: Tensor,
    surfaces: Sequence[str],
    encode: Encoder,
    top_k: int = 10,
    temperature: float = 0.1,
    csls: int = 0,
) -> Tensor:
    """A softmax-weighted mean of the base words' rows that lie nearest in a shared semantic space.

    ``row = sum_k softmax(score(surface, word_k) / temperature) * weight[word_k]`` over the ``top_k`` highest scores.
    The score is the cosine; with ``csls`` it is ``cos - (r(surface) + r(word)) / 2``, where r is the mean cosine of the
    ``csls`` nearest on the other side: half of CSLS, so that a temperature means the same with it and without. It
    takes from words that lie near everything (hubs). The idea is WECHSEL's (Minixhofer et al. 2022), with a sentence
    encoder that knows both languages in place of aligned static vectors.

    Args:
        sources: words of the base and their rows.
        weight: float32 [base rows, hidden].
        surfaces: the new tokens' texts, without continuation marks.
        encode: [texts] -> float32 [n, dim] with rows of length 1.

    Returns:
        float32 [len(surfaces), hidden].

    Raises:
        InputError: there is no source.

    Source of CSLS: Conneau et al. 2018, "Word translation without parallel data".
    """
    if not sources:
        raise InputError("vocab.initializer: the base's vocabulary holds no word to be semantic with; choose mean")
    distinct = list(dict.fromkeys(surfaces))  # a piece and its ##continuation have one surface
    words = torch.from_numpy(np.asarray(encode(list(sources))))
    vectors = torch.from_numpy(np.asarray(encode(distinct)))
    source_rows = weight[list(sources.values())]
    hubness = nearness(words, vectors, csls) / 2 if csls else torch.zeros(len(words))
    rows = []
    for block in vectors.split(BLOCK):
        # r(surface) is the same for all words: it changes neither their order nor the softmax.
        nearest, index = (block @ words.T - hubness).topk(min(top_k, len(words)), dim=1)
        weights = torch.softmax(nearest / temperature, dim=1)
        rows.append(torch.einsum("nk,nkh->nh", weights, source_rows[index]))
    position = {surface: row for row, surface in enumerate(distinct)}
    return torch.cat(rows)[[position[surface] for surface in surfaces]]


def nearness(vectors: Tensor, others: Tensor, count: int) -> Tensor:
    """Mean cosine of each vector with its ``count`` nearest of the others; float32 [vectors]."""
    blocks = (block @ others.T for block in vectors.split(BLOCK))
    return torch.cat([cosines.topk(min(count, len(others)), dim=1).values.mean(1) for cosines in blocks])
