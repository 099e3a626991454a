"""Put new tokens into a tokenizer and a model without changing what the old ones do."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Regex, Tokenizer, normalizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from koembed.models import backbone, input_rows, output_rows, transformer
from koembed.vocab.bpe import read_base
from koembed.vocab.learned import Learned

# Private use: BertNormalizer's clean_text has removed every such character before this one is put in.
GUARD = "\ue000"

TILE = 64  # rows of a matrix that a GPU multiplies at once


def compose_hangul(tokenizer: Tokenizer) -> Tokenizer:
    """A copy whose normaliser leaves Hangul composed, and every other script exactly as it was.

    BERT's accent stripping decomposes (NFD), which turns a Hangul syllable into two or three jamo. Composing again
    (NFC) after it restores the syllables, but would also join vowel signs of Bengali, Tamil and twelve other scripts
    that the base keeps apart; a guard character between those, put in before NFC and taken out after it, prevents that.
    """
    copy = Tokenizer.from_str(tokenizer.to_str())
    if copy.normalizer is None or "한" in copy.normalizer.normalize_str("한"):
        return copy
    firsts, seconds = (_character_class(parts) for parts in zip(*_composing_pairs(), strict=True))
    # The guard goes between two characters, never before the first: NFC panics on an insertion at the start
    # (tokenizers 0.23).
    guard = normalizers.Replace(Regex(f"(?<={firsts})(?={seconds})"), GUARD)
    copy.normalizer = normalizers.Sequence(
        [copy.normalizer, guard, normalizers.NFC(), normalizers.Replace(GUARD, "")]  # type: ignore[list-item]
    )
    return copy


@cache
def _composing_pairs() -> tuple[tuple[str, str], ...]:
    """Pairs of characters outside Hangul that accent stripping keeps and NFC would join.

    >>> ("\u09c7", "\u09be") in _composing_pairs()
    True
    """
    pairs = set()
    for code in [*range(0xAC00), *range(0xE000, 0x20000)]:  # all but surrogates; Hangul is passed over below
        if 0xAC00 <= code <= 0xD7A3:
            continue
        decomposed = unicodedata.normalize("NFD", chr(code))
        kept = "".join(part for part in decomposed if unicodedata.category(part) != "Mn")
        if unicodedata.normalize("NFC", kept) != kept:
            pairs.add((kept[-2], kept[-1]))
    return tuple(sorted(pairs))


def _character_class(characters: Sequence[str]) -> str:
    return "[" + "".join(sorted(set(characters))) + "]"


def unreachable(tokenizer: Tokenizer, learned: Learned) -> list[str]:
    """Those of the new tokens that no text can produce.

    A token fires when its text, as the normaliser leaves it, is cut into that token; a WordPiece continuation
    (``##은``) when it is so after some single syllable. A BPE token's text comes after an "a": where a space is put
    before every text, a token without one starts no text. Tokens without a text (byte-level BPE's scaffolding, which
    ends within a character) are made on the way to others, and are passed over.
    """
    tokens = [pair for pair in zip(learned.tokens, learned.surfaces, strict=True) if pair[1]]
    if isinstance(tokenizer.model, BPE):
        text_of = read_base(tokenizer).text
        return [token for token, _ in tokens if _last(tokenizer, f"a{text_of(token)}") != token]
    starts = [token for token in tokenizer.get_vocab() if len(token) == 1 and "가" <= token <= "힣"]
    return [token for token, surface in tokens if not _fires(tokenizer, token, surface, starts)]


def _last(tokenizer: Tokenizer, text: str) -> str:
    return tokenizer.encode(text, add_special_tokens=False).tokens[-1]


def _fires(tokenizer: Tokenizer, token: str, surface: str, starts: Sequence[str]) -> bool:
    normal = tokenizer.normalizer.normalize_str(surface) if tokenizer.normalizer is not None else surface
    bare = token if surface in normal else token.replace(surface, normal)
    texts = (start + normal for start in starts) if token == f"##{surface}" else (bare,)
    return any(tokenizer.model.tokenize(text)[-1].value == token for text in texts)


def graft_model(model: SentenceTransformer, tokenizer: Tokenizer, rows: Tensor, outputs: Tensor | None = None) -> None:
    """Give a loaded model the grafted tokenizer, and rows to its last ids, in place.

    The rows of all other ids stay bit for bit. Rows past the ids, which many bases have to spare (Qwen3: 151,936 for
    151,669 ids), are taken by new ids before the matrix grows; those that stay spare become zero. No id looks them
    up, so they get no gradient. Output embeddings that are tied to the input matrix follow it.

    Args:
        rows: float32 [new tokens, hidden], in the order of their ids.
        outputs: the same for output embeddings of their own (untied); without it they start at random.
    """
    ids = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
    first = ids - len(rows)
    backbone(model).resize_token_embeddings(matrix_rows(ids, len(input_rows(model))), mean_resizing=False)
    own = output_rows(model)
    with torch.no_grad():
        for weight, values in ((input_rows(model), rows), (own, outputs)):
            if weight is not None and values is not None:
                weight[first:ids] = values.to(weight)
                weight[ids:] = 0
    transformer(model).processor = _fast_tokenizer(model.tokenizer, tokenizer)


def matrix_rows(ids: int, base_rows: int) -> int:
    """Rows of the matrix for so many ids: as many, or the next multiple of 64 where the base has a multiple of 64.

    Such a base was padded for the matrix product of its output embeddings, which is fast on a GPU in whole tiles only.
    A lookup gains nothing from it, so that other bases, the encoders, get no spare rows.

    >>> matrix_rows(159_669, 151_936), matrix_rows(259_669, 250_037)
    (159680, 259669)
    """
    return ids if base_rows % TILE else -(-ids // TILE) * TILE


def _fast_tokenizer(old: PreTrainedTokenizerBase, tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer under the generic class, which loads tokenizer.json whole, with the settings of the old one.

    The model's own class (BertTokenizer) would rebuild the normaliser from its settings and decompose Hangul again.
    Which tokens surround a text (Qwen3-Embedding: an end token after it) is in the post-processor, so the settings
    that would make another one (add_eos_token) are not passed on.
    """
    bare = Tokenizer.from_str(tokenizer.to_str())
    bare.no_truncation()
    bare.no_padding()
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        model_max_length=old.model_max_length,
        padding_side=old.padding_side,
        truncation_side=old.truncation_side,
        model_input_names=old.model_input_names,
        clean_up_tokenization_spaces=old.clean_up_tokenization_spaces,
        chat_template=old.chat_template,
        extra_special_tokens=old.extra_special_tokens,
        **old.special_tokens_map,
    )
