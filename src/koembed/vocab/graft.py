"""Put new tokens into a tokenizer and a model without changing what the old ones do."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Regex, Tokenizer, normalizers
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from koembed.models import backbone, input_rows, transformer
from koembed.vocab.learned import Learned

# Private use: BertNormalizer's clean_text has removed every such character before this one is put in.
GUARD = "\ue000"


def compose_hangul(tokenizer: Tokenizer) -> Tokenizer:
    """A copy whose normaliser leaves Hangul composed, and every other script exactly as it was.

    BERT's accent stripping decomposes (NFD), which turns a Hangul syllable into two or three jamo. Composing again
    (NFC) after it restores the syllables, but would also join vowel signs of Bengali, Tamil and twelve other scripts
    that the base keeps apart; a guard character between those, put in before NFC and taken out after it, prevents that.
    """
    copy = Tokenizer.from_str(tokenizer.to_str())
    if copy.normalizer is None or copy.normalizer.normalize_str("한") == "한":
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
    (``##은``) when it is so after some single syllable.
    """
    starts = [token for token in tokenizer.get_vocab() if len(token) == 1 and "가" <= token <= "힣"]
    tokens = zip(learned.tokens, learned.surfaces, strict=True)
    return [token for token, surface in tokens if not _fires(tokenizer, token, surface, starts)]


def _fires(tokenizer: Tokenizer, token: str, surface: str, starts: Sequence[str]) -> bool:
    normal = tokenizer.normalizer.normalize_str(surface) if tokenizer.normalizer is not None else surface
    if token == f"##{surface}":
        texts = [start + normal for start in starts]
    else:
        texts = [token if surface in normal else token.replace(surface, normal)]
    return any(tokenizer.model.tokenize(text)[-1].value == token for text in texts)


def graft_model(model: SentenceTransformer, tokenizer: Tokenizer, rows: Tensor) -> None:
    """Give a loaded model the grafted tokenizer and its new input rows, in place.

    Args:
        rows: float32 [new tokens, hidden], in the order of their ids.

    The old rows stay bit for bit. Output embeddings, where a model ties them, follow the input matrix.
    """
    old = input_rows(model)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    first = size - len(rows)
    kept = old.detach().clone()[:first]
    backbone(model).resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        weight = input_rows(model)
        weight[: len(kept)] = kept
        weight[first:] = rows.to(weight.dtype)
    transformer(model).processor = _fast_tokenizer(model.tokenizer, tokenizer)


def _fast_tokenizer(old: PreTrainedTokenizerBase, tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer under the generic class, which loads tokenizer.json whole.

    The model's own class (BertTokenizer) would rebuild the normaliser from its settings and decompose Hangul again.
    """
    bare = Tokenizer.from_str(tokenizer.to_str())
    bare.no_truncation()
    bare.no_padding()
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        model_max_length=old.model_max_length,
        padding_side=old.padding_side,
        model_input_names=old.model_input_names,
        **{name: str(token) for name, token in old.special_tokens_map.items() if isinstance(token, str)},
    )
