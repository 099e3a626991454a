"""Learn and graft by the tokenizer's family: for each a module with these two functions and a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokenizers import Tokenizer

from koembed.errors import InputError
from koembed.vocab.bpe import graft_bpe, learn_bpe
from koembed.vocab.learned import Learned
from koembed.vocab.morphemes import frequent_morphemes
from koembed.vocab.unigram import graft_unigram, learn_unigram
from koembed.vocab.wordpiece import graft_wordpiece, learn_wordpiece

Learn = Callable[..., Learned]  # (tokenizer, texts, size, words)
Graft = Callable[[Tokenizer, Learned], Tokenizer]

FAMILIES: dict[str, tuple[Learn, Graft]] = {
    "BPE": (learn_bpe, graft_bpe),
    "Unigram": (learn_unigram, graft_unigram),
    "WordPiece": (learn_wordpiece, graft_wordpiece),
}
MORPHEMES = 4_000  # of the corpus, the most frequent; the last of them occur once in about two thousand texts


def family(tokenizer: Tokenizer) -> tuple[Learn, Graft]:
    """How tokens are learned for, and grafted on, this tokenizer.

    Raises:
        InputError: no module knows its family.
    """
    name = type(tokenizer.model).__name__
    if name not in FAMILIES:
        raise InputError(f"tokenizer: family {name} cannot be expanded; these can: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def with_morphemes(tokenizer: Tokenizer, texts: Sequence[str], words: Sequence[str]) -> list[str]:
    """Listed words, and after them the corpus's frequent morphemes (``vocab.morphemes``).

    Raises:
        InputError: the tokenizer is BPE, or kiwipiepy is not installed.
    """
    if type(tokenizer.model).__name__ == "BPE":
        # Qwen3, 8,000 tokens: 0.718 of the base's tokens with 4,000 morphemes listed, 0.664 without.
        raise InputError("vocab.morphemes: takes places from better merges in BPE; set it to false")
    return [*words, *frequent_morphemes(texts, MORPHEMES)]
