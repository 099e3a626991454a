"""Stage 0 in one call: trim the base's vocabulary, learn tokens, graft them, give them rows, check what came out."""

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
from koembed.models import input_rows, output_rows
from koembed.vocab.graft import compose_hangul, graft_model, unreachable
from koembed.vocab.initialize import first_rows
from koembed.vocab.knee import Curve
from koembed.vocab.learn import family, with_morphemes
from koembed.vocab.learned import Learned
from koembed.vocab.trim import trim, trim_model

SAMPLE = 2_000  # texts that fertility is measured on


@dataclass(frozen=True)
class Size:
    """How large a model is: ``rows`` of its input matrix, ``parameters`` with tied ones counted once."""

    rows: int
    parameters: int

    @classmethod
    def of(cls, model: SentenceTransformer) -> Size:
        """Of a loaded model."""
        return cls(len(input_rows(model)), sum(parameter.numel() for parameter in model.parameters()))


@dataclass(frozen=True)
class Expansion:
    """What stage 0 did.

    Attributes:
        tokens: new tokens, in the order of their ids.
        first_new_row: row of the first of them.
        trimmed: tokens of the base that were dropped.
        initializer: how the new rows started.
        size: before and after.
        fertility: tokens per word (split at white space) before and after.
        unknown: unknown tokens per word before and after.
        scaffolding: new tokens without a text of their own (byte-level BPE), which longer ones are merged from.
        unreachable: share of the others that no text can produce.
        curve: what the number of tokens was chosen on, where it was.
    """

    tokens: list[str]
    first_new_row: int
    trimmed: int
    initializer: str
    size: tuple[Size, Size]
    fertility: tuple[float, float]
    unknown: tuple[float, float]
    scaffolding: int
    unreachable: float
    curve: Curve | None = None

    def report(self) -> dict[str, Any]:
        """For expansion.json."""
        before, after = self.size
        return {
            "initializer": self.initializer,
            "new_tokens": len(self.tokens),
            "trimmed_tokens": self.trimmed,
            "first_new_row": self.first_new_row,
            "rows": {"before": before.rows, "after": after.rows},
            "parameters": {"before": before.parameters, "after": after.parameters},
            "fertility": {"before": self.fertility[0], "after": self.fertility[1]},
            "unknown": {"before": self.unknown[0], "after": self.unknown[1]},
            "scaffolding": self.scaffolding,
            "unreachable": self.unreachable,
            "curve": self.curve and self.curve.report(),
            "tokens": self.tokens,
        }


def expand(
    model: SentenceTransformer,
    texts: Sequence[str],
    words: Sequence[str],
    settings: Vocab,
    seed: int,
    keep: Sequence[str] = (),
) -> Expansion:
    """Teach the model's tokenizer Korean, in place.

    Args:
        texts: the corpus that tokens are learned from.
        words: words that become tokens.
        keep: texts of all languages that the model must go on reading; base pieces that neither they nor the model's
            prompts use are dropped first. Empty: all stay.

    Raises:
        InputError: the tokenizer has no fast form, is of a family that cannot be expanded, or nothing was learned.
    """
    original, before = fast_tokenizer(model), Size.of(model)
    learn, graft = family(original)
    base = original
    if keep:
        base, old_ids = trim(original, [*keep, *filter(None, model.prompts.values())])
        trim_model(model, base, old_ids)
    composed = compose_hangul(base)
    if settings.morphemes:
        words = with_morphemes(composed, texts, words)
    learned = learn(composed, texts, settings.size, words)
    if not learned.tokens:
        raise InputError("vocab: the corpus and the word list hold no Korean that the tokenizer lacks; nothing to add")
    grown = graft(composed, learned)
    rows = first_rows(base, input_rows(model).detach().float().cpu(), learned, texts, settings, seed)
    graft_model(model, grown, rows, first_outputs(model, base, learned, texts, settings, seed))
    sample = texts[:SAMPLE]
    return Expansion(
        tokens=learned.tokens,
        first_new_row=grown.get_vocab()[learned.tokens[0]],
        trimmed=original.get_vocab_size() - base.get_vocab_size(),
        initializer=settings.initializer,
        size=(before, Size.of(model)),
        fertility=(tokens_per_word(original, sample), tokens_per_word(grown, sample)),
        unknown=(unknown_per_word(original, sample), unknown_per_word(grown, sample)),
        scaffolding=learned.scaffolding,
        unreachable=len(unreachable(grown, learned)) / max(len(learned.tokens) - learned.scaffolding, 1),
        curve=learned.curve,
    )


def fast_tokenizer(model: SentenceTransformer) -> Tokenizer:
    """A copy of the model's tokenizer, which neither pads nor truncates.

    Raises:
        InputError: it is one of Python, which has no tokenizer.json.
    """
    if not model.tokenizer.is_fast:
        name = type(model.tokenizer).__name__
        raise InputError(f"tokenizer: {name} has no tokenizer.json (slow only); convert it to a fast tokenizer first")
    copy = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def first_outputs(
    model: SentenceTransformer, base: Tokenizer, learned: Learned, texts: Sequence[str], settings: Vocab, seed: int
) -> Tensor | None:
    """Rows of the new tokens in an output matrix of its own, float32 [new, hidden]: the mean of their parts' rows."""
    outputs = output_rows(model)
    if outputs is None:
        return None
    by_mean = settings.model_copy(update={"initializer": "mean"})
    return first_rows(base, outputs.detach().float().cpu(), learned, texts, by_mean, seed)


def tokens_per_word(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Fertility: tokens a word (split at white space), special tokens not counted."""
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return sum(len(one.ids) for one in encoded) / sum(len(text.split()) for text in texts)


def unknown_per_word(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Unknown tokens a word (split at white space); 0 for a tokenizer that knows all bytes and has no such token."""
    model = json.loads(tokenizer.to_str())["model"]
    # Unigram names the unknown token by id, the others by content, which a token of unknown text does not show.
    unknown = model.get("unk_id") if model["type"] == "Unigram" else model["vocab"].get(model["unk_token"])
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return sum(one.ids.count(unknown) for one in encoded) / sum(len(text.split()) for text in texts)
