"""WordPiece: pieces, words and letters on a BERT-like tokenizer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from conftest import KOREAN
from koembed.vocab import counting
from koembed.vocab.counting import count_words
from koembed.vocab.graft import compose_hangul
from koembed.vocab.learn import family
from koembed.vocab.learned import Learned
from koembed.vocab.wordpiece import (
    compression,
    graft_wordpiece,
    hangul_words,
    learn_wordpiece,
    standard_syllables,
)

TEXTS = KOREAN * 8
WORDS = ["도서관", "-까지", "인공지능", "abc", "물"]


@pytest.fixture(scope="module")
def base(wordpiece: Tokenizer) -> Tokenizer:
    return compose_hangul(wordpiece)


@pytest.fixture(scope="module")
def learned(base: Tokenizer) -> Learned:
    return learn_wordpiece(base, TEXTS, 30, WORDS)


@pytest.fixture(scope="module")
def grown(base: Tokenizer, learned: Learned) -> Tokenizer:
    return graft_wordpiece(base, learned)


def test_pieces_come_first_then_words_then_letters(learned):
    lengths = [len(surface) for surface in learned.surfaces]
    assert min(lengths[:30]) > 1
    assert learned.tokens[30:33] == ["도서관", "##까지", "인공지능"]
    assert set(lengths[33:]) == {1}
    assert {"가", "##가", "ㅋ", "##ㅋ"} <= {*learned.tokens}
    assert "abc" not in learned.tokens
    assert learned.scaffolding == 0


def test_old_ids_stay_and_new_ones_follow(base, learned, grown):
    old, new = base.get_vocab(), grown.get_vocab()
    assert {token: new[token] for token in old} == old
    assert [new[token] for token in learned.tokens] == list(range(len(old), len(old) + len(learned.tokens)))


def test_added_tokens_outside_the_vocabulary_keep_their_ids(base, learned):
    extended = Tokenizer.from_str(base.to_str())
    extended.add_tokens(["domainterm"])
    grown = graft_wordpiece(extended, learned)
    added = extended.token_to_id("domainterm")
    assert grown.token_to_id("domainterm") == added
    assert grown.encode("a domainterm", add_special_tokens=False).ids[-1] == added
    assert min(grown.token_to_id(token) for token in learned.tokens) == added + 1


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_text_without_hangul_keeps_its_ids(base, grown, text):
    if not any("ᄀ" <= char <= "ᇿ" or "ㄱ" <= char <= "ㆎ" or "ꥠ" <= char <= "ꥼ" or char >= "가" for char in text):
        assert grown.encode(text).ids == base.encode(text).ids


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from([*standard_syllables()[::30], *"ㅋㅠ ."]), min_size=1))
def test_standard_korean_is_never_unknown(grown, text):
    assert "[UNK]" not in grown.encode(text).tokens


def test_korean_gets_shorter_and_listed_words_are_whole(base, grown):
    def total(tokenizer):
        return sum(len(tokenizer.encode(text).ids) for text in TEXTS)

    assert total(grown) < 0.8 * total(graft_wordpiece(base, learn_wordpiece(base, TEXTS, 0)))
    assert grown.encode("도서관까지", add_special_tokens=False).tokens == ["도서관", "##까지"]


def test_the_curve_holds_for_smaller_vocabularies(base):
    """Pieces come in the order of their merges, so fewer are what a smaller budget gives."""
    counts = hangul_words(TEXTS)
    pieces = learn_wordpiece(base, TEXTS, 40).tokens[:40]
    curve = compression(base, pieces, ["도서관"], counts)
    assert curve.sizes == list(range(41))
    for size in (0, 10, 25, 40):
        tokens = [*pieces[:size], *learn_wordpiece(base, TEXTS, 0, ["도서관"]).tokens]
        smaller = graft_wordpiece(base, Learned(list(dict.fromkeys(tokens)), []))
        total = sum(count * len(smaller.encode(word, add_special_tokens=False).ids) for word, count in counts.items())
        assert curve.tokens[size] == total


def test_the_size_is_found_at_the_knee(base):
    words = list(dict.fromkeys(" ".join(KOREAN).split()))
    texts = [word for rank, word in enumerate(words, start=1) for _ in range(400 // rank)]
    learned = learn_wordpiece(base, texts, "auto", WORDS)
    assert 0 < learned.curve.knee < learned.curve.sizes[-1]
    assert learned.tokens.index("도서관") == learned.curve.knee


def test_other_processes_count_the_same(monkeypatch):
    alone = count_words(TEXTS, hangul_words)
    monkeypatch.setattr(counting, "CHUNK", 200)
    monkeypatch.setattr(counting, "ALONE", 1)
    assert list(count_words(iter(TEXTS), hangul_words).items()) == list(alone.items())


def test_the_family_is_known(base):
    assert family(base) == (learn_wordpiece, graft_wordpiece)
