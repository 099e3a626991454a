"""WordPiece tokenizers (BERT, MiniLM): learn Korean pieces, and graft them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.trainers import WordPieceTrainer

from koembed.vocab.counting import count_words, repeated
from koembed.vocab.knee import LARGEST, Budget, Curve, hold_out, points
from koembed.vocab.learned import Learned

HANGUL_WORD = re.compile(r"[가-힣]+")
LISTED = re.compile(r"-?[가-힣]+")
HANGUL_PIECE = re.compile(r"(##)?[가-힣ㄱ-ㅎㅏ-ㅣ]+")
# Enough for any Korean: rarer syllables than these and the corpus's own do occur, but in no text that is kept.
LETTERS = [chr(code) for code in range(ord("ㄱ"), ord("ㅣ") + 1)]


def learn_wordpiece(tokenizer: Tokenizer, texts: Iterable[str], size: Budget, words: Sequence[str] = ()) -> Learned:
    """Korean tokens that the vocabulary lacks, corpus pieces first.

    Three sources, each adding what the ones before do not have: the ``size`` pieces that WordPiece training finds in
    the texts, the words of the list, and every syllable of standard Korean, as the start of a word and as its
    continuation, so that no Korean word of modern spelling can become ``[UNK]``.

    Args:
        tokenizer: the base, already normalising to composed Hangul (see ``graft.compose_hangul``).
        texts: the corpus; read once.
        size: how many pieces training may find; 0 for none. ``auto``: at the knee of the compression curve.
        words: words that become whole tokens, those that begin with a hyphen (``-에서``) as continuations; those that
            are not Hangul alone are passed over.

    Source: Schuster and Nakajima 2012 (WordPiece); the trainer merges by frequency, as the `tokenizers` library does.
    """
    whole = [word.replace("-", "##") for word in words if len(word) > 1 and LISTED.fullmatch(word)]
    held: list[str] = []
    counts = count_words(hold_out(texts, held) if size == "auto" else texts, hangul_words)
    pieces = _train(tokenizer, counts, LARGEST if size == "auto" else size) if size else []
    curve = None
    if size == "auto":
        curve = compression(tokenizer, pieces, whole, hangul_words(held))
        pieces = pieces[: curve.knee]
    base = tokenizer.get_vocab(with_added_tokens=True)
    candidates = [*pieces, *whole, *_letters(pieces, whole)]
    tokens = [token for token in dict.fromkeys(candidates) if token not in base]
    return Learned(tokens, [token.removeprefix("##") for token in tokens], curve=curve)


def hangul_words(texts: Iterable[str]) -> Counter[str]:
    """Runs of Hangul syllables and their counts.

    >>> hangul_words(["물을 iPhone은 물을"])
    Counter({'물을': 2, '은': 1})
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(HANGUL_WORD.findall(text))
    return counts


def compression(tokenizer: Tokenizer, pieces: Sequence[str], whole: Sequence[str], counts: Mapping[str, int]) -> Curve:
    """Tokens that counted words take with the first pieces alone; listed words and letters are there at every size."""
    always = {*tokenizer.get_vocab(), *whole, *_letters([*pieces, *counts], whole)}
    sizes, tokens = points(len(pieces)), []
    for size in sizes:
        vocab = {token: number for number, token in enumerate(always.union(pieces[:size]))}
        model = WordPiece(vocab, unk_token=tokenizer.model.unk_token)
        tokens.append(sum(count * len(model.tokenize(word)) for word, count in counts.items()))
    return Curve(sizes, tokens)


def _letters(pieces: Iterable[str], whole: Iterable[str]) -> list[str]:
    """Letters of standard Korean and of some tokens, as the start of a word and as its continuation."""
    used = {letter for token in (*pieces, *whole) for letter in token.removeprefix("##")}
    letters = sorted(used.union(standard_syllables(), LETTERS))
    return [*letters, *(f"##{letter}" for letter in letters)]


def graft_wordpiece(tokenizer: Tokenizer, learned: Learned) -> Tokenizer:
    """A copy of a WordPiece tokenizer with the learned tokens appended to its vocabulary, ids following the highest."""
    parts = json.loads(tokenizer.to_str())
    vocab: dict[str, int] = parts["model"]["vocab"]
    # Added tokens that the model lacks would be given the ids after the model's last when read, now the new tokens'.
    vocab.update({token["content"]: token["id"] for token in parts["added_tokens"]})
    first = 1 + max(vocab.values())
    vocab.update({token: first + position for position, token in enumerate(learned.tokens)})
    return Tokenizer.from_str(json.dumps(parts, ensure_ascii=False))


def _train(tokenizer: Tokenizer, counts: Mapping[str, int], size: int) -> list[str]:
    """The pieces of Hangul alone that WordPiece training finds, most frequent merges first.

    A merge needs no later one, so that the first of them are what a smaller budget gives.
    """
    learner = Tokenizer(WordPiece(unk_token="[UNK]"))
    learner.normalizer = tokenizer.normalizer
    learner.pre_tokenizer = tokenizer.pre_tokenizer
    # The alphabet takes places too: syllables, twice each. They are not counted in `size`.
    alphabet = 2 * 11_172
    trainer = WordPieceTrainer(vocab_size=size + alphabet, min_frequency=2, show_progress=False)
    learner.train_from_iterator(repeated(counts), trainer)
    by_id = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    longer = [token for token, _ in by_id if HANGUL_PIECE.fullmatch(token) and len(token.removeprefix("##")) > 1]
    return longer[:size]


def standard_syllables() -> list[str]:
    """The 2,350 syllables of KS X 1001, the set that modern Korean is written with."""
    rows = range(0xB0, 0xC9)  # Hangul occupies rows 16 to 40 of the character set's 94 x 94 table.
    return [bytes((row, cell)).decode("euc_kr") for row in rows for cell in range(0xA1, 0xFF)]
