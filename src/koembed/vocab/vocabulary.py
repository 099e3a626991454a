"""A tokenizer's vocabulary: what its tokens stand for, which of them no text can produce, how well it cuts a text."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from koembed.vocab.bpe import byte_text, is_byte_level

ALPHA = 2.5  # of the Rényi entropy: the one that Zouhar et al. found to go with translation quality best
BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")
# Put before a token's text, in turn, until some text produces the token: it may have to stand inside a word, and must
# not merge with what is before it.
STARTS = ("", "a", "0", "q", "가", "ㅋ", "я", "あ", "中", "ا", "-", " ")


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer without truncation and padding, and what its file says about its tokens.

    Attributes:
        ids: every token and its id, added tokens included.
        specials: contents and ids of the special tokens among the added ones.
        family: WordPiece, BPE, Unigram, ...
        unknown: id of the unknown token.
        plain: the tokens that stand for text of whole characters, and that text; added tokens are not among them.
        partial: the others: byte pieces (``<0x0A>``), and byte-level tokens that begin or end within a character.
    """

    tokenizer: Tokenizer
    ids: dict[str, int]
    specials: dict[str, int]
    family: str
    unknown: int | None
    plain: dict[str, str]
    partial: set[str]

    def encode(self, texts: Sequence[str], special: bool = False) -> list[list[int]]:
        """Ids of each text, with special tokens around them or without."""
        return [one.ids for one in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=special)]

    def decode(self, encoded: Sequence[list[int]]) -> list[str]:
        """Texts of ids; special tokens, the unknown one among them, are left out."""
        return self.tokenizer.decode_batch(encoded)

    def tokens(self, ids: Iterable[int]) -> list[str | None]:
        """Tokens of ids; the unknown token, not the text, for what is unknown."""
        return [self.tokenizer.id_to_token(number) for number in ids]

    @cached_property
    def unreachable(self) -> set[str]:
        """Plain tokens that no text tried here produces.

        A token's own text is encoded, by itself and after each of ``STARTS``; whatever any of these texts produces is
        reachable. A token that needs stranger surroundings is counted too, so this is an upper bound.
        """
        waiting = set(self.plain)
        for start in STARTS:
            produced = {
                number for ids in self.encode([start + self.plain[token] for token in waiting]) for number in ids
            }
            waiting = {token for token in waiting if self.ids[token] not in produced}
        return waiting


def read_vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """Take a tokenizer apart."""
    bare = Tokenizer.from_str(tokenizer.to_str())
    bare.no_truncation()
    bare.no_padding()
    parts = json.loads(bare.to_str())
    model = parts["model"]
    ids = bare.get_vocab(with_added_tokens=True)
    byte_level = is_byte_level(parts)
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    plain, partial = {}, set()
    for token in ids.keys() - {added["content"] for added in parts["added_tokens"]}:
        letters = token.removeprefix(prefix).removesuffix(suffix) or token
        text = byte_text(letters) if byte_level else letters.replace("▁", " ")
        if text and not BYTE_PIECE.fullmatch(token):
            plain[token] = text
        else:
            partial.add(token)
    unknown = model.get("unk_id")  # Unigram's file has an id, the others' a token
    return Vocabulary(
        tokenizer=bare,
        ids=ids,
        specials={added["content"]: added["id"] for added in parts["added_tokens"] if added["special"]},
        family=model["type"],
        unknown=ids.get(model.get("unk_token") or "") if unknown is None else unknown,
        plain=plain,
        partial=partial,
    )


def measure_text(vocabulary: Vocabulary, texts: Sequence[str]) -> dict[str, Any]:
    """How the texts are cut. Words are split at white space; special tokens are not counted; shares are 0-1."""
    encoded = vocabulary.encode(texts)
    counts = Counter(number for ids in encoded for number in ids)
    tokens = max(1, counts.total())
    words = max(1, sum(len(text.split()) for text in texts))
    composed, decomposed = (
        vocabulary.encode([unicodedata.normalize(form, text) for text in texts]) for form in ("NFC", "NFD")
    )
    lossless = losses(vocabulary.tokenizer, texts, vocabulary.decode(encoded)).count(0)
    return {
        "texts": len(texts),
        "tokens_per_word": tokens / words,
        "bytes_per_token": sum(len(text.encode()) for text in texts) / tokens,
        "renyi_efficiency": renyi_efficiency(list(counts.values())),
        "unknown": counts[vocabulary.unknown] / tokens if vocabulary.unknown is not None else 0.0,
        "partial": sum(counts[vocabulary.ids[token]] for token in vocabulary.partial) / tokens,
        "round_trip": lossless / max(1, len(texts)),
        "nfd_same": sum(map(list.__eq__, composed, decomposed)) / max(1, len(texts)),
        "nfd_tokens_per_word": sum(map(len, decomposed)) / words,
    }


def renyi_efficiency(counts: Sequence[int], alpha: float = ALPHA) -> float:
    """Rényi entropy of the tokens' frequencies, as a share of the most that so many distinct tokens can have.

    ``log(sum p^alpha) / (1 - alpha) / log(n)`` over the n distinct tokens that occur, 0-1.

    Source: Zouhar et al. 2023, "Tokenization and the Noiseless Channel".

    >>> round(renyi_efficiency([5, 5, 5]), 6)
    1.0
    """
    if len(counts) < 2:
        return 0.0
    shares = np.array(counts, np.float64) / sum(counts)
    return float(np.log((shares**alpha).sum()) / (1 - alpha) / np.log(len(counts)))


def losses(tokenizer: Tokenizer, texts: Sequence[str], decoded: Sequence[str]) -> list[int]:
    """Characters of each text that decoding did not give back; at least 1 where it gave another text.

    What the tokenizer's normaliser takes away (capitals, accents) is no loss, nor is another Unicode form of the same
    text, nor white space at either end.
    """
    normalizer = tokenizer.normalizer
    wanted = [normalizer.normalize_str(text) if normalizer else text for text in texts]
    found = []
    for before, after in zip(map(_fold, wanted), map(_fold, decoded), strict=True):
        missing = (Counter(before) - Counter(after)).total()
        found.append(max(missing, int(before != after)))
    return found


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text.replace("▁", " ")).strip()
