"""Stage 0 in one call: learn tokens, graft them, give them rows, and check what came out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch import Tensor

from koembed.config import Vocab
from koembed.errors import InputError
from koembed.models import input_rows
from koembed.vocab.graft import compose_hangul, graft_model, unreachable
from koembed.vocab.initialize import initialize_mean, initialize_random, initialize_semantic, semantic_space
from koembed.vocab.learn import family
from koembed.vocab.learned import Learned

SAMPLE = 2_000  # texts that fertility is measured on


@dataclass(frozen=True)
class Expansion:
    """What stage 0 did.

    Attributes:
        tokens: new tokens, in the order of their ids.
        initializer: how their rows started.
        fertility: tokens per word (split at white space) before and after.
        unreachable: share of the new tokens that no text can produce.
        unknown: unknown tokens per word before and after.
    """

    tokens: list[str]
    initializer: str
    fertility: tuple[float, float]
    unknown: tuple[float, float]
    unreachable: float

    def report(self) -> dict[str, Any]:
        """For expansion.json."""
        return {
            "initializer": self.initializer,
            "new_tokens": len(self.tokens),
            "fertility": {"before": self.fertility[0], "after": self.fertility[1]},
            "unknown": {"before": self.unknown[0], "after": self.unknown[1]},
            "unreachable": self.unreachable,
            "tokens": self.tokens,
        }


def expand(
    model: SentenceTransformer, texts: Sequence[str], words: Sequence[str], settings: Vocab, seed: int
) -> Expansion:
    """Teach the model's tokenizer Korean, in place.

    Raises:
        InputError: the tokenizer has no fast form, is of a family that cannot be expanded, or nothing was learned.
    """
    if not model.tokenizer.is_fast:
        raise InputError("tokenizer: has no tokenizer.json (slow only); convert it to a fast tokenizer first")
    base = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    base.no_truncation()
    base.no_padding()
    composed = compose_hangul(base)
    learn, graft = family(composed)
    learned = learn(composed, texts, settings.pieces, words)
    if not learned.tokens:
        raise InputError("vocab: the corpus and the word list hold no Korean that the tokenizer lacks; nothing to add")
    grown = graft(composed, learned)
    graft_model(model, grown, initialize(model, base, learned, settings, seed))
    sample = texts[:SAMPLE]
    return Expansion(
        tokens=learned.tokens,
        initializer=settings.initializer,
        fertility=(tokens_per_word(base, sample), tokens_per_word(grown, sample)),
        unknown=(unknown_per_word(base, sample), unknown_per_word(grown, sample)),
        unreachable=len(unreachable(grown, learned)) / len(learned.tokens),
    )


def initialize(model: SentenceTransformer, base: Tokenizer, learned: Learned, settings: Vocab, seed: int) -> Tensor:
    """First rows of the new tokens, float32 [new, hidden]."""
    weight = input_rows(model).detach().float().cpu()
    if settings.initializer == "mean":
        tokens = zip(learned.tokens, learned.surfaces, strict=True)
        return initialize_mean(weight, [subtokens(base, token, surface) for token, surface in tokens])
    if settings.initializer == "random":
        return initialize_random(weight, len(learned.tokens), seed)
    encode = semantic_space(settings.semantic_space)
    return initialize_semantic(base, weight, learned.surfaces, encode, settings.top_k, settings.temperature)


def subtokens(base: Tokenizer, token: str, surface: str) -> list[int]:
    """Ids that the base cuts a new token into.

    The token itself goes to the model, so that an inner piece gets no word-start mark; in WordPiece its text does,
    since the base's normaliser decomposes Hangul.
    """
    if type(base.model).__name__ == "WordPiece":
        return base.encode(surface, add_special_tokens=False).ids
    return [piece.id for piece in base.model.tokenize(token)]


def tokens_per_word(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Fertility: tokens a word (split at white space), special tokens not counted."""
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return sum(len(one.ids) for one in encoded) / sum(len(text.split()) for text in texts)


def unknown_per_word(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Unknown tokens a word (split at white space)."""
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    model = json.loads(tokenizer.to_str())["model"]
    unknown = model["vocab"][model["unk_id"]][0] if model.get("unk_id") is not None else model.get("unk_token")
    return sum(one.tokens.count(unknown) for one in encoded) / sum(len(text.split()) for text in texts)
