import unicodedata

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.normalizers import Prepend, Replace, Sequence
from tokenizers.pre_tokenizers import ByteLevel

from conftest import KOREAN
from koembed.config import Vocab
from koembed.errors import InputError
from koembed.vocab.bpe import byte_letters, graft_bpe
from koembed.vocab.expand import expand
from koembed.vocab.graft import compose_hangul, unreachable
from koembed.vocab.learn import family
from koembed.vocab.learned import Learned
from koembed.vocab.wordpiece import graft_wordpiece, learn_wordpiece

HANGUL = range(0xAC00, 0xD7A4)
JAMO = {*range(0x1100, 0x1200), *range(0x3130, 0x3190), *range(0xA960, 0xA980), *range(0xD7B0, 0xD800)}
not_korean = st.text().filter(lambda text: not any(ord(c) in HANGUL or ord(c) in JAMO for c in text))
indic = st.text(alphabet=st.sampled_from([chr(c) for c in (*range(0x0300, 0x0310), *range(0x0980, 0x0E00))]))


@pytest.fixture(scope="module")
def composed(wordpiece: Tokenizer) -> Tokenizer:
    return compose_hangul(wordpiece)


@pytest.fixture(scope="module")
def grown(composed: Tokenizer) -> Tokenizer:
    return graft_wordpiece(composed, learn_wordpiece(composed, KOREAN * 5, 100, ["사과", "날씨"]))


@settings(max_examples=500, deadline=None)
@given(not_korean | indic)
def test_text_without_korean_normalises_as_before(wordpiece, composed, text):
    assert composed.normalizer.normalize_str(text) == wordpiece.normalizer.normalize_str(text)


@settings(max_examples=500, deadline=None)
@given(not_korean | indic)
def test_text_without_korean_keeps_its_ids(wordpiece, grown, text):
    assert grown.encode(text).ids == wordpiece.encode(text).ids


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), min_size=1))
def test_hangul_is_composed_however_it_was_written(composed, text):
    for form in ("NFC", "NFD"):
        assert composed.normalizer.normalize_str(unicodedata.normalize(form, text)) == text


def test_a_normaliser_that_keeps_hangul_composed_stays_as_it_is():
    """Llama 2's puts a mark before the text: the syllable comes back beside it, not decomposed."""
    tokenizer = Tokenizer(BPE({"▁": 0}, []))
    tokenizer.normalizer = Sequence([Prepend("▁"), Replace(" ", "▁")])
    assert compose_hangul(tokenizer).normalizer.normalize_str("cafe\u0301") == "▁cafe\u0301"


def test_mixed_text_composes_only_hangul(composed):
    assert composed.normalizer.normalize_str("Café 한국 \u09c7\u09be") == "cafe 한국 \u09c7\u09be"


def test_every_new_token_is_reachable(composed, grown):
    assert unreachable(grown, learn_wordpiece(composed, KOREAN * 5, 100, ["사과", "날씨"])) == []


def test_a_token_that_cannot_fire_is_found(composed):
    # The normaliser makes it lower case before it is looked up.
    learned = Learned(["한국", "NO한국"], ["한국", "NO한국"])
    assert unreachable(graft_wordpiece(composed, learned), learned) == ["NO한국"]


def test_a_bpe_token_without_a_merge_is_found_and_one_without_a_text_passed_over():
    tokenizer = Tokenizer(BPE({letter: number for number, letter in enumerate(["a", *byte_letters()[0x80:]])}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    first, second, third = (byte_letters()[byte] for byte in "비".encode())
    merges = [(first, second), (first + second, third)]
    tokens, surfaces = [first + second, first + second + third], ["", "비"]
    for made, found in ((merges, []), (merges[:1], tokens[1:])):
        learned = Learned(tokens, surfaces, made)
        assert unreachable(graft_bpe(tokenizer, learned), learned) == found


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("가나다라한국어을를이가는은 .,"), min_size=1))
def test_decoding_gives_the_words_back(grown, text):
    decoded = grown.decode(grown.encode(text, add_special_tokens=False).ids)
    assert decoded.replace(" ", "") == text.replace(" ", "")


def test_the_reloaded_tokenizer_agrees(grown, bert_directory, tmp_path):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    expand(model, KOREAN, ["사과"], Vocab(size=50, initializer="mean"), seed=0)
    model.save(str(tmp_path), create_model_card=False)
    reloaded = SentenceTransformer(str(tmp_path), device="cpu")
    assert reloaded.tokenizer(KOREAN)["input_ids"] == model.tokenizer(KOREAN)["input_ids"]
    np.testing.assert_array_equal(reloaded.encode(KOREAN), model.encode(KOREAN))


@pytest.mark.parametrize("initializer", ["mean", "random"])
def test_old_rows_and_english_vectors_stay_bit_for_bit(bert_directory, initializer):
    english = ["open the window", "the price of water", "rain"]
    model = SentenceTransformer(str(bert_directory), device="cpu")
    before, vectors = model[0].model.get_input_embeddings().weight.detach().clone(), model.encode(english)
    expansion = expand(model, KOREAN, ["사과"], Vocab(size=50, initializer=initializer), seed=0)
    after = model[0].model.get_input_embeddings().weight
    assert after.shape == (len(before) + len(expansion.tokens), 32)
    assert torch.equal(after[: len(before)], before)
    np.testing.assert_array_equal(model.encode(english), vectors)
    assert expansion.unreachable == 0
    assert expansion.fertility[1] < expansion.fertility[0]


def test_an_unknown_family_is_refused():
    with pytest.raises(InputError, match="family WordLevel cannot be expanded"):
        family(Tokenizer(WordLevel()))
