"""WordPiece tokenizers (BERT, MiniLM): learn Korean pieces, and graft them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.trainers import WordPieceTrainer

from koembed.vocab.learned import Learned

HANGUL_WORD = re.compile(r"[가-힣]+")
HANGUL_PIECE = re.compile(r"(##)?[가-힣ㄱ-ㅎㅏ-ㅣ]+")
# Enough for any Korean: rarer syllables than these and the corpus's own do occur, but in no text that is kept.
LETTERS = [chr(code) for code in range(ord("ㄱ"), ord("ㅣ") + 1)]


def learn_wordpiece(tokenizer: Tokenizer, texts: Iterable[str], size: int, words: Sequence[str] = ()) -> Learned:
    """Korean tokens that the vocabulary lacks, corpus pieces first.

    Three sources, each adding what the ones before do not have: the ``size`` pieces that WordPiece training finds in
    the texts, the words of the list, and every syllable of standard Korean, as the start of a word and as its
    continuation, so that no Korean word of modern spelling can become ``[UNK]``.

    Args:
        tokenizer: the base, already normalising to composed Hangul (see ``graft.compose_hangul``).
        texts: the corpus; read once.
        size: how many pieces training may find; 0 for none.
        words: words that become whole tokens; those that are not Hangul alone are passed over.

    Source: Schuster and Nakajima 2012 (WordPiece); the trainer merges by frequency, as the `tokenizers` library does.
    """
    base = tokenizer.get_vocab(with_added_tokens=True)
    pieces = _train(tokenizer, texts, size) if size else []
    whole = [word for word in words if len(word) > 1 and HANGUL_WORD.fullmatch(word)]
    syllables = {letter for token in (*pieces, *whole) for letter in token.removeprefix("##")}
    letters = sorted(syllables.union(standard_syllables(), LETTERS))
    candidates = [*pieces, *whole, *letters, *(f"##{letter}" for letter in letters)]
    tokens = [token for token in dict.fromkeys(candidates) if token not in base]
    return Learned(tokens, [token.removeprefix("##") for token in tokens])


def graft_wordpiece(tokenizer: Tokenizer, learned: Learned) -> Tokenizer:
    """A copy of a WordPiece tokenizer with the learned tokens appended to its vocabulary, ids following the highest."""
    parts = json.loads(tokenizer.to_str())
    vocab: dict[str, int] = parts["model"]["vocab"]
    first = 1 + max(*vocab.values(), *(token["id"] for token in parts["added_tokens"]))
    for position, token in enumerate(learned.tokens):
        vocab[token] = first + position
    return Tokenizer.from_str(json.dumps(parts, ensure_ascii=False))


def _train(tokenizer: Tokenizer, texts: Iterable[str], size: int) -> list[str]:
    """The pieces of Hangul alone that WordPiece training finds, most frequent merges first."""
    learner = Tokenizer(WordPiece(unk_token="[UNK]"))
    learner.normalizer = tokenizer.normalizer
    learner.pre_tokenizer = tokenizer.pre_tokenizer
    hangul = (" ".join(HANGUL_WORD.findall(text)) for text in texts)
    # The alphabet takes places too: syllables, twice each. They are not counted in `size`.
    alphabet = 2 * 11_172
    trainer = WordPieceTrainer(vocab_size=size + alphabet, min_frequency=2, show_progress=False)
    learner.train_from_iterator(hangul, trainer)
    by_id = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    longer = [token for token, _ in by_id if HANGUL_PIECE.fullmatch(token) and len(token.removeprefix("##")) > 1]
    return longer[:size]


def standard_syllables() -> list[str]:
    """The 2,350 syllables of KS X 1001, the set that modern Korean is written with."""
    rows = range(0xB0, 0xC9)  # Hangul occupies rows 16 to 40 of the character set's 94 x 94 table.
    return [bytes((row, cell)).decode("euc_kr") for row in rows for cell in range(0xA1, 0xFF)]
