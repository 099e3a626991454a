"""Morphemes by kiwipiepy, and what the families make of them."""

import sys

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE

from koembed.errors import InputError
from koembed.vocab.graft import compose_hangul
from koembed.vocab.learn import family, with_morphemes
from koembed.vocab.morphemes import FLOOR, frequent_morphemes

TEXTS = [
    "학교에서 시장까지 걸었던 길이 예뻤습니다.",
    "도서관에서 책을 읽었습니다. 학교 도서관은 iPhone에서 본다.",
] * FLOOR


def test_frequent_morphemes_follow_the_list_and_know_their_place(wordpiece: Tokenizer):
    pytest.importorskip("kiwipiepy")
    found = with_morphemes(wordpiece, [*TEXTS, "드물게만 나오는 낱말"], ["인공지능"])
    assert found[:2] == ["인공지능", "-에서"]
    assert {"학교", "도서관", "시장", "-까지", "-습니다"} <= {*found}
    assert not {"예쁘", "낱말", "에서", "-학교", "길"} & {*found}


def test_without_kiwipiepy_one_line_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    with pytest.raises(InputError, match="pip install kiwipiepy"):
        frequent_morphemes(TEXTS, 10)


def test_wordpiece_makes_what_follows_a_continuation(wordpiece: Tokenizer):
    base = compose_hangul(wordpiece)
    learn, graft = family(base)
    grown = graft(base, learn(base, [], 1, ["도서관", "-에서"]))
    assert grown.encode("도서관에서", add_special_tokens=False).tokens == ["도서관", "##에서"]


def test_bpe_takes_no_morphemes():
    with pytest.raises(InputError, match="BPE"):
        with_morphemes(Tokenizer(BPE()), TEXTS, [])
