"""Morphemes by kiwipiepy, and what the families make of them."""

import sys

import pytest
from tokenizers import Tokenizer

from koembed.errors import InputError
from koembed.vocab.graft import compose_hangul
from koembed.vocab.learn import family
from koembed.vocab.morphemes import FLOOR, frequent_morphemes

TEXTS = [
    "학교에서 시장까지 걸었던 길이 예뻤습니다.",
    "도서관에서 책을 읽었습니다. 학교 도서관은 iPhone에서 본다.",
] * FLOOR


def test_frequent_morphemes_are_found_with_their_place():
    pytest.importorskip("kiwipiepy")
    found = frequent_morphemes([*TEXTS, "드물게만 나오는 낱말"], 100)
    assert found[0] == "-에서"
    assert {"학교", "도서관", "시장", "-까지", "-습니다"} <= {*found}
    assert not {"예쁘", "낱말", "에서", "-학교", "길"} & {*found}
    assert frequent_morphemes(TEXTS, 3) == found[:3]


def test_without_kiwipiepy_one_line_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    with pytest.raises(InputError, match="pip install kiwipiepy"):
        frequent_morphemes(TEXTS, 10)


def test_wordpiece_makes_what_follows_a_continuation(wordpiece: Tokenizer):
    base = compose_hangul(wordpiece)
    learn, graft = family(base)
    grown = graft(base, learn(base, [], 1, ["도서관", "-에서"]))
    assert grown.encode("도서관에서", add_special_tokens=False).tokens == ["도서관", "##에서"]
