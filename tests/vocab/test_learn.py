"""Counting words in chunks and processes; families that cannot be expanded."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from koembed.errors import InputError
from koembed.vocab import counting
from koembed.vocab.counting import count_words, repeated, without_rarest
from koembed.vocab.learn import family

texts = st.lists(st.lists(st.sampled_from("가나다라마바사"), max_size=5).map(" ".join), max_size=40)


def split(some: list[str]) -> Counter[str]:
    """What stands for a tokenizer here: words at spaces."""
    return Counter(word for text in some for word in text.split())


@settings(max_examples=200, deadline=None)
@given(texts)
def test_counts_are_those_of_the_whole_in_the_order_of_first_occurrence(texts):
    assert list(count_words(iter(texts), split).items()) == list(split(texts).items())


@pytest.mark.parametrize("distinct", [3, 30, 3_000])
def test_any_number_of_processes_counts_the_same(distinct, monkeypatch):
    monkeypatch.setattr(counting, "CHUNK", 70)
    monkeypatch.setattr(counting, "ALONE", 2)
    monkeypatch.setattr(counting, "DISTINCT", distinct)
    texts = [f"{number % 13} {number * number % 101} 가" for number in range(300)]
    one, two, three = (count_words(iter(texts), split, processes) for processes in (1, 2, 3))
    assert list(one.items()) == list(two.items()) == list(three.items())
    assert len(one) <= distinct
    assert one["가"] == 300


def test_few_texts_are_read_ahead():
    read = []
    chunks = ([read.append(number) or "가"] for number in range(100))
    parts = counting._spread(split, chunks, 2)
    for done in range(1, 90):
        assert next(parts) == {"가": 1}
        assert len(read) <= done + 4


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 5)), st.integers(0, 20))
def test_the_rarest_are_dropped_and_of_equals_the_latest(counts, size):
    by_count = sorted(counts, key=lambda word: -counts[word])  # stable: of equals the first comes first
    kept = without_rarest(counts, size)
    assert {*kept} == {*by_count[:size]}
    assert list(kept) == [word for word in counts if word in kept]


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 50)), st.integers(1, 20))
def test_repeated_shows_each_word_as_often_as_it_occurs(counts, block):
    shown = list(repeated(counts, block))
    assert Counter(" ".join(shown).split()) == counts
    assert all(len(text.split()) == block for text in shown[:-1])


def test_huge_counts_are_thinned_alike(monkeypatch):
    monkeypatch.setattr(counting, "OCCURRENCES", 1_000)
    shown = Counter("".join(repeated({"ab": 9_000, "cd": 3_000, "ef": 1})).split())
    assert shown["ab"] == pytest.approx(3 * shown["cd"], abs=3)
    assert 900 <= shown.total() <= 1_000


def test_a_family_without_subwords_is_refused():
    with pytest.raises(InputError, match="WordLevel cannot be expanded"):
        family(Tokenizer(WordLevel({"<unk>": 0}, "<unk>")))
