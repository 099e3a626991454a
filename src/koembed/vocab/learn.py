"""Learn and graft by the tokenizer's family; a new family is a module with these two functions and a line here."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import Tokenizer

from koembed.errors import InputError
from koembed.vocab.bpe import graft_bpe, learn_bpe
from koembed.vocab.learned import Learned
from koembed.vocab.unigram import graft_unigram, learn_unigram
from koembed.vocab.wordpiece import graft_wordpiece, learn_wordpiece

Learn = Callable[..., Learned]  # (tokenizer, texts, size, words)
Graft = Callable[[Tokenizer, Learned], Tokenizer]

FAMILIES: dict[str, tuple[Learn, Graft]] = {
    "BPE": (learn_bpe, graft_bpe),
    "Unigram": (learn_unigram, graft_unigram),
    "WordPiece": (learn_wordpiece, graft_wordpiece),
}


def family(tokenizer: Tokenizer) -> tuple[Learn, Graft]:
    """How tokens are learned for, and grafted on, this tokenizer.

    Raises:
        InputError: no module knows its family.
    """
    name = type(tokenizer.model).__name__
    if name not in FAMILIES:
        raise InputError(f"tokenizer: family {name} cannot be expanded; these can: {', '.join(FAMILIES)}")
    return FAMILIES[name]
