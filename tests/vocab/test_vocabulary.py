import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.trainers import BpeTrainer, UnigramTrainer

from conftest import ENGLISH, KOREAN
from koembed.vocab.vocabulary import Vocabulary, losses, measure_text, read_vocabulary, renyi_efficiency

CORPUS = [*KOREAN, " ".join(ENGLISH)] * 20


def wordpiece_of(*tokens: str) -> Tokenizer:
    """An uncased WordPiece tokenizer with these tokens after ``[UNK]``."""
    tokenizer = Tokenizer(WordPiece({token: i for i, token in enumerate(["[UNK]", *tokens])}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[UNK]"])
    return tokenizer


def byte_level() -> Tokenizer:
    """Like Qwen3's."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer


def unigram() -> Tokenizer:
    """Like XLM-R's."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = UnigramTrainer(vocab_size=200, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@pytest.fixture(scope="module", params=["wordpiece", "byte_level", "unigram"])
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    made = {"byte_level": byte_level, "unigram": unigram}
    return read_vocabulary(made[request.param]() if request.param in made else request.getfixturevalue("wordpiece"))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30) | st.lists(st.sampled_from([*ENGLISH, *"창문을열어ᄒ각ঠ.☆é"])).map("".join))
def test_what_a_text_produces_is_reachable(vocabulary, text):
    produced = vocabulary.tokens(number for ids in vocabulary.encode([text]) for number in ids)
    assert vocabulary.unreachable.isdisjoint(produced)


def test_every_token_is_plain_partial_or_added(vocabulary):
    added = {token.content for token in vocabulary.tokenizer.get_added_tokens_decoder().values()}
    assert vocabulary.ids.keys() == vocabulary.plain.keys() | vocabulary.partial | added
    assert vocabulary.plain.keys().isdisjoint(vocabulary.partial | added)


def test_byte_level_tokens_are_read_as_text():
    vocabulary = read_vocabulary(byte_level())
    assert vocabulary.plain["Ġ"] == " "
    assert {"ì", "ê"} <= vocabulary.partial  # first bytes of Hangul
    assert vocabulary.unreachable == set()


def test_byte_pieces_stand_for_no_text():
    vocab = {"<unk>": 0, "<0xEA>": 1, "▁": 2, "가": 3, "▁가": 4, "##": 5}
    tokenizer = Tokenizer(BPE(vocab, [("▁", "가")], unk_token="<unk>", byte_fallback=True))
    tokenizer.add_special_tokens(["<unk>"])
    vocabulary = read_vocabulary(tokenizer)
    assert vocabulary.partial == {"<0xEA>"}
    assert vocabulary.plain == {"▁": " ", "가": "가", "▁가": " 가", "##": "##"}


def test_tokens_that_no_text_produces_are_found():
    # Upper case is made lower case, punctuation is cut off, and no text is cut at a bracket's inside.
    tokens = ["a", "한국", "##은", "##!", "NO한국", "[unused1]", "a한"]
    vocabulary = read_vocabulary(wordpiece_of(*tokens))
    assert vocabulary.unreachable == {"##!", "NO한국", "[unused1]"}


def test_a_unigram_piece_below_its_split_is_unreachable():
    pieces = [("<unk>", 0.0), ("▁", -1.0), ("가", -2.0), ("나", -2.0), ("가나", -4.5), ("나가", -3.5)]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    assert read_vocabulary(tokenizer).unreachable == {"가나"}


def test_renyi_efficiency_is_the_formula():
    # The published example, "pick @@ed pick @@l @@ed pick @@les" (tokenization-scorer's page), there with alpha 3.
    assert renyi_efficiency([3, 2, 1, 1], alpha=3) == pytest.approx(0.8031528501359657, abs=1e-12)
    counts = [17, 5, 4, 1]
    entropy = np.log(sum((count / 27) ** 2.5 for count in counts)) / (1 - 2.5)
    assert renyi_efficiency(counts) == pytest.approx(entropy / np.log(4), abs=1e-12)
    assert renyi_efficiency([9]) == renyi_efficiency([]) == 0


def test_text_figures_are_counted_by_hand():
    vocabulary = read_vocabulary(wordpiece_of("한국", "##은", "물", "a"))
    found = measure_text(vocabulary, ["한국은 물", "A 뷁"])
    assert (found["tokens_per_word"], found["unknown"]) == (5 / 4, 1 / 5)  # 한국 ##은 물 | a [UNK]
    assert found["bytes_per_token"] == (13 + 5) / 5
    assert found["round_trip"] == 1 / 2
    assert found["nfd_same"] == 1 / 2  # the normaliser leaves the jamo of NFD, which are unknown; so is 뷁 either way
    assert found["nfd_tokens_per_word"] == 4 / 4  # [UNK] [UNK] | a [UNK]


def test_losses_are_what_decoding_leaves_out():
    tokenizer = wordpiece_of("a")
    texts = ["Ab", " ab ", unicodedata.normalize("NFD", "각"), "각하", "ab", "ab"]
    assert losses(tokenizer, texts, ["ab", "ab", "각", "각", "ba", "abb"]) == [0, 0, 0, 1, 1, 1]
