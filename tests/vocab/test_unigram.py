import json
import math
import unicodedata
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import Unigram
from tokenizers.trainers import UnigramTrainer

from conftest import ENGLISH, KOREAN
from koembed.vocab import counting
from koembed.vocab.learn import family
from koembed.vocab.learned import Learned
from koembed.vocab.unigram import RUN, Lattice, compression, count_runs, graft_unigram, learn_unigram
from koembed.vocab.wordpiece import standard_syllables

UNKNOWN = 3
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
TEXTS = [*KOREAN * 8, "시장에서 기차표를 예매해요 ㅋㅋㅋ", "창문에서 비가 와서 자리에서 물을 마시라고"] * 4
WORDS = ["사과", "날씨예보", "abc", "물"]
korean = st.text(alphabet=st.sampled_from("가나다창문을열어시장에서기차표를예매합니다물자리 .,aㅋ뷁1"), min_size=1)


@pytest.fixture(scope="module")
def unigram() -> Tokenizer:
    """Like XLM-R's: NFKC, ▁, specials first, <mask> last in the vocabulary, poor Korean, and an added token beyond."""
    learner = Tokenizer(Unigram())
    learner.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    learner.decoder = decoders.Metaspace()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,'?!-éß字☆"
    texts = [" ".join(ENGLISH[i:] + ENGLISH[:i]) for i in range(len(ENGLISH))] * 20 + [" ".join(letters)] * 2 + KOREAN
    trainer = UnigramTrainer(
        vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", initial_alphabet=list(letters), show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    parts = json.loads(learner.to_str())
    parts["model"]["vocab"].append(["<mask>", 0.0])
    tokenizer = Tokenizer.from_str(json.dumps(parts))
    tokenizer.add_special_tokens(["<mask>", "<new>"])
    return tokenizer


@pytest.fixture(scope="module")
def learned(unigram: Tokenizer) -> Learned:
    return learn_unigram(unigram, TEXTS, 40, WORDS)


@pytest.fixture(scope="module")
def grown(unigram: Tokenizer, learned: Learned) -> Tokenizer:
    return graft_unigram(unigram, learned)


@pytest.fixture(scope="module")
def with_letters(unigram: Tokenizer) -> Tokenizer:
    return graft_unigram(unigram, learn_unigram(unigram, ["똠 쓩"] * 5, 0))


def has_hangul(text: str) -> bool:
    return any(RUN.search(form) for form in (text, unicodedata.normalize("NFKC", text)))


@settings(max_examples=500, deadline=None)
@given(st.text() | st.text(alphabet=st.sampled_from("abehotw indr.é☆字🙂１＜mask＞\u3000\t")))
def test_text_without_hangul_keeps_its_ids(unigram, grown, text):
    if not has_hangul(text):
        assert grown.encode(text).ids == unigram.encode(text).ids


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(ENGLISH), min_size=2, max_size=2, unique=True), korean)
def test_words_beside_korean_keep_their_pieces(unigram, grown, words, text):
    mixed = f"{words[0]} {text} {words[1]}"
    for position, word in ((0, words[0]), (-1, words[1])):
        pieces = unigram.encode(word).tokens
        found = grown.encode(mixed).tokens
        assert found[: len(pieces)] == pieces if position == 0 else found[-len(pieces) :] == pieces


@settings(max_examples=300, deadline=None)
@given(korean | st.text())
def test_nothing_becomes_unknown_and_decoding_agrees(unigram, grown, text):
    before, after = unigram.encode(text, add_special_tokens=False), grown.encode(text, add_special_tokens=False)
    assert after.ids.count(UNKNOWN) <= before.ids.count(UNKNOWN) or has_hangul(text)  # one unknown run may fall in two
    if UNKNOWN not in before.ids:
        assert UNKNOWN not in after.ids
        assert grown.decode(after.ids) == unigram.decode(before.ids)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from([*standard_syllables()[::40], *"ㄱㅋㅆ똠쓩 "]), min_size=1))
def test_standard_korean_and_the_corpus_are_never_unknown(with_letters, text):
    assert UNKNOWN not in with_letters.encode(text).ids


def test_saved_and_reloaded_agree(grown, tmp_path):
    grown.save(str(tmp_path / "tokenizer.json"))
    reloaded = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [reloaded.encode(text).ids for text in TEXTS] == [grown.encode(text).ids for text in TEXTS]


def test_old_ids_stay_and_new_ones_follow(unigram, grown, learned):
    old, new = unigram.get_vocab(), grown.get_vocab()
    assert {token: new[token] for token in old} == old
    assert [new[token] for token in learned.tokens] == list(range(len(old), len(old) + len(learned.tokens)))
    assert grown.encode("<mask><new>").ids == [old["<mask>"], old["<new>"]]
    assert all(RUN.fullmatch(token) for token in learned.tokens)


def test_every_new_piece_fires_and_none_scores_below_the_base(unigram, grown, learned):
    lowest = min(score for _, score in json.loads(unigram.to_str())["model"]["vocab"])
    assert min(learned.scores) >= lowest
    dead = [token for token in learned.tokens if [one.value for one in grown.model.tokenize(token)] != [token]]
    assert dead == []


def test_korean_gets_shorter_and_listed_words_are_whole(unigram, grown, learned):
    before, after = (sum(len(one.encode(text).ids) for text in TEXTS) for one in (unigram, grown))
    assert after < 0.7 * before
    assert grown.encode("날씨예보").tokens == ["▁날씨예보"]
    assert "abc" not in learned.surfaces
    assert learned.surfaces[learned.tokens.index("▁날씨예보")] == "날씨예보"


def test_listed_words_with_a_hyphen_are_pieces_within_words(unigram):
    grown = graft_unigram(unigram, learn_unigram(unigram, TEXTS, 0, ["도서관", "-에서"]))
    assert grown.encode("도서관에서").tokens == ["▁도서관", "에서"]


def test_the_size_is_found_at_the_knee(unigram):
    learned = learn_unigram(unigram, TEXTS * 3, "auto")
    curve = learned.curve
    assert 0 < curve.knee < curve.sizes[-1]
    assert sum(len(surface) > 1 for surface in learned.surfaces) <= curve.knee
    assert len(learned.tokens) < len(learn_unigram(unigram, TEXTS * 3, 10_000).tokens)


def test_the_curve_ends_are_the_grafted_tokenizers(unigram, learned, grown):
    pieces = json.loads(unigram.to_str())["model"]["vocab"]
    base = {piece: score for piece, score in pieces if piece == "▁" or RUN.fullmatch(piece)}
    lowest = min(score for _, score in pieces)
    counts = count_runs(unigram, TEXTS)
    curve = compression(dict(zip(learned.tokens, learned.scores, strict=True)), base, lowest, counts)
    letters_alone = graft_unigram(unigram, learn_unigram(unigram, TEXTS, 0))
    for tokenizer, total in ((letters_alone, curve.tokens[0]), (grown, curve.tokens[-1])):
        assert sum(count * len(tokenizer.model.tokenize(run)) for run, count in counts.items()) == total


def test_other_processes_count_the_same(unigram, monkeypatch):
    alone = count_runs(unigram, TEXTS)
    monkeypatch.setattr(counting, "CHUNK", 200)
    monkeypatch.setattr(counting, "ALONE", 1)
    assert list(count_runs(unigram, TEXTS).items()) == list(alone.items())


def test_the_budget_holds_and_learning_repeats(unigram, learned):
    letters = set(learn_unigram(unigram, TEXTS, 0).tokens)
    pieces = [token for token in learned.tokens if token not in letters and token not in ("▁사과", "▁날씨예보")]
    assert 0 < len(pieces) <= 40
    assert learn_unigram(unigram, TEXTS, 40, WORDS) == learned


def test_a_letter_that_only_longer_pieces_hold_gets_its_own(unigram):
    """Otherwise a new piece beside it could leave it unknown: 갂 in 갂시 | 원 where 시원 is new."""
    parts = json.loads(unigram.to_str())
    parts["model"]["vocab"].insert(-1, ["갂시", -9.0])
    parts["added_tokens"] = parts["added_tokens"][:4]
    base = Tokenizer.from_str(json.dumps(parts))
    assert UNKNOWN not in base.encode("갂시원").ids
    learned = learn_unigram(base, ["시원 " * 50], 5)
    assert "시원" in learned.surfaces and "갂" in learned.tokens
    assert UNKNOWN not in graft_unigram(base, learned).encode("갂시원").ids


def test_learning_again_adds_nothing_known(unigram, grown, learned):
    again = learn_unigram(grown, TEXTS, 20)
    assert not set(again.tokens) & set(grown.get_vocab())


def test_a_tokenizer_without_korean_learns_it(unigram):
    parts = json.loads(unigram.to_str())
    parts["model"]["vocab"] = [pair for pair in parts["model"]["vocab"] if not RUN.fullmatch(pair[0]) or pair[0] == "▁"]
    parts["added_tokens"] = parts["added_tokens"][:4]
    foreign = Tokenizer.from_str(json.dumps(parts))
    grown = graft_unigram(foreign, learn_unigram(foreign, TEXTS, 100))
    assert not any(UNKNOWN in grown.encode(text).ids for text in TEXTS)
    assert all(len(grown.encode(text).ids) < len(text) / 2 for text in KOREAN)


def test_the_family_is_known(unigram):
    assert family(unigram) == (learn_unigram, graft_unigram)


def test_the_lattice_agrees_with_enumeration():
    """Oracle: every segmentation of each word, one by one."""
    scores = {"": -math.inf, "a": -2.0, "b": -1.5, "ab": -2.2, "ba": -3.0, "bab": -4.0, "c": -5.0}
    words, weights = ["abab", "bab", "c", "cab"], np.array([3.0, 1.0, 2.0, 5.0])
    pieces = list(scores)
    lattice = Lattice(words, {piece: number for number, piece in enumerate(pieces)})
    values = np.array(list(scores.values()))
    expected, best = np.zeros(len(pieces)), []
    for word, weight in zip(words, weights, strict=True):
        paths = [path for path in _cuts(word) if all(part in scores for part in path)]
        likely = [math.exp(sum(scores[part] for part in path)) for path in paths]
        for path, share in zip(paths, likely, strict=True):
            for part in path:
                expected[pieces.index(part)] += weight * share / sum(likely)
        best.append(max((sum(scores[part] for part in path) for path in paths if len(path) > 1), default=-math.inf))
    np.testing.assert_allclose(lattice.expected_counts(values, weights), expected, rtol=1e-12)
    np.testing.assert_allclose(lattice.best_splits(values), best, rtol=1e-12)


def _cuts(word: str) -> list[list[str]]:
    inner = range(1, len(word))
    return [
        [word[start:end] for start, end in zip((0, *cuts), (*cuts, len(word)), strict=True)]
        for count in range(len(word))
        for cuts in combinations(inner, count)
    ]
