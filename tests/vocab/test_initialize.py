import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from conftest import ENGLISH, KOREAN
from koembed.config import Vocab
from koembed.errors import InputError
from koembed.vocab.bpe import learn_bpe
from koembed.vocab.initialize import (
    RATE,
    base_words,
    first_rows,
    initialize_mean,
    initialize_random,
    initialize_semantic,
    join_parts,
    live_rows,
    position_weights,
)
from koembed.vocab.learned import Learned
from koembed.vocab.wordpiece import learn_wordpiece

HIDDEN = 8
SURPLUS = 5  # rows of the matrix that belong to no token
POISON = 1e6  # what rows hold that must not be used


@pytest.fixture
def byte_level() -> Tokenizer:
    """Bytes and a few words, as GPT-2 writes them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def matrix(tokenizer: Tokenizer) -> torch.Tensor:
    """Random rows, and surplus ones that would spoil whatever they got into."""
    rows = torch.randn(tokenizer.get_vocab_size() + SURPLUS, HIDDEN, generator=torch.Generator().manual_seed(3))
    rows[-SURPLUS:] = POISON
    return rows


def directions(words: list[str], seed: int = 0) -> dict[str, np.ndarray]:
    drawn = np.random.default_rng(seed).normal(size=(len(words), 5)) + 0.5
    return dict(zip(words, (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32), strict=True))


def mean_of_nearest(cosines: np.ndarray, count: int) -> np.ndarray:
    return np.sort(cosines, axis=1)[:, -count:].mean(1)


@pytest.mark.parametrize("csls", [0, 3])
def test_semantic_rows_equal_the_formula_in_float64(csls):
    new = ["물", "불", "창문", "물"]
    space = directions([*ENGLISH, *dict.fromkeys(new)])
    sources = {word: 2 * row for row, word in enumerate(ENGLISH)}
    weight = torch.randn(2 * len(ENGLISH), HIDDEN)
    rows = initialize_semantic(
        sources, weight, new, lambda texts: np.stack([space[text] for text in texts]), 4, 0.2, csls
    )
    words = np.stack([space[word] for word in ENGLISH]).astype(np.float64)
    distinct = np.stack([space[text] for text in dict.fromkeys(new)]).astype(np.float64)
    scores = distinct @ words.T
    if csls:
        cosines = scores
        to_words, to_new = mean_of_nearest(cosines, csls)[:, None], mean_of_nearest(cosines.T, csls)
        scores = (2 * cosines - to_words - to_new) / 2
    for number, row in enumerate(rows[:3]):
        best = scores[number].argsort()[-4:]
        shares = np.exp(scores[number, best] / 0.2) / np.exp(scores[number, best] / 0.2).sum()
        expected = shares @ weight.double().numpy()[[sources[ENGLISH[word]] for word in best]]
        np.testing.assert_allclose(row.numpy(), expected, atol=1e-5)
    assert torch.equal(rows[0], rows[3])


def test_csls_takes_from_a_word_that_lies_near_everything():
    angles = {"hub": 0, "window": 35, "창문": 17, "문": -17}  # degrees; the hub is the nearest to both

    def circle(texts):
        turns = np.deg2rad([angles[text] for text in texts])
        return np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)

    chosen = [
        initialize_semantic({"hub": 0, "window": 1}, torch.eye(2), ["창문", "문"], circle, top_k=1, csls=csls)
        for csls in (0, 2)
    ]
    assert chosen[0].argmax(1).tolist() == [0, 0]
    assert chosen[1].argmax(1).tolist() == [1, 0]


def test_mean_rows_equal_the_formula_and_leave_dead_rows_out(wordpiece):
    weight = matrix(wordpiece)
    ids = wordpiece.encode("사과", add_special_tokens=False).ids
    weight[ids[1]] = 1e-5
    live = live_rows(wordpiece, weight)
    rows = initialize_mean(weight, live, [ids, [ids[1]]])
    alive = weight.double().numpy()[:-SURPLUS]
    np.testing.assert_allclose(rows[0], alive[[ids[0], *ids[2:]]].mean(0), atol=1e-6)
    np.testing.assert_allclose(rows[1], np.delete(alive, ids[1], axis=0).mean(0), atol=1e-5)


def test_position_rows_equal_the_formula(wordpiece):
    weight = matrix(wordpiece)
    ids = wordpiece.encode("사과", add_special_tokens=False).ids
    shares = np.exp(RATE * np.arange(len(ids)))
    row = initialize_mean(weight, live_rows(wordpiece, weight), [ids], position_weights)[0]
    np.testing.assert_allclose(row, shares / shares.sum() @ weight.double().numpy()[ids], atol=1e-6)


def test_live_rows_are_those_of_tokens_and_of_some_length(wordpiece):
    weight = matrix(wordpiece)
    weight[[7, 9]] = torch.stack([torch.zeros(HIDDEN), torch.full((HIDDEN,), 1e-4)])
    dead = {7, 9, *range(wordpiece.get_vocab_size(), len(weight))}
    assert set((~live_rows(wordpiece, weight)).nonzero().flatten().tolist()) == dead


def test_random_rows_have_the_moments_of_the_base():
    weight = torch.randn(4000, 4) * torch.tensor([0.5, 1.0, 2.0, 3.0]) + torch.tensor([1.0, 0.0, -1.0, 2.0])
    rows = initialize_random(weight, 4000, seed=1)
    np.testing.assert_allclose(rows.mean(0), weight.mean(0), atol=0.2)
    np.testing.assert_allclose(rows.std(0), weight.std(0), rtol=0.1)


def test_words_of_a_wordpiece_vocabulary():
    vocab = ["[UNK]", "open", "Open", "##open", "a", "Korea", "window", "서울", "##서울", "창", "don't", "x1"]
    base = Tokenizer(models.WordPiece({token: row for row, token in enumerate(vocab)}, unk_token="[UNK]"))
    assert base_words(base) == {"open": 1, "Korea": 5, "window": 6, "서울": 7}


def test_words_of_a_sentencepiece_vocabulary_are_the_marked_ones_where_both_exist():
    vocab = ["<unk>", "open", "▁Open", "▁open", "window", "▁Korea", "korea", "▁서울", "서울", "한국", "▁", "▁a", "ñu"]
    base = Tokenizer(models.Unigram([(token, -1.0) for token in vocab], unk_id=0))
    assert base_words(base) == {"open": 3, "window": 4, "Korea": 5, "서울": 7, "한국": 9}


def test_words_of_a_byte_level_vocabulary_are_read_from_its_bytes(byte_level):
    table = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    written = {text: table.pre_tokenize_str(text)[0][0] for text in (" open", "open", "Window", " 서울", "서울", " 가")}
    vocab = byte_level.get_vocab()
    vocab.update({token: len(vocab) + row for row, token in enumerate(written.values())})
    model = models.BPE(vocab, [])
    base = Tokenizer(model)
    base.pre_tokenizer, base.decoder = byte_level.pre_tokenizer, byte_level.decoder
    expected = {"open": written[" open"], "Window": written["Window"], "서울": written[" 서울"]}
    assert base_words(base) == {word: vocab[token] for word, token in expected.items()}


def test_tokens_that_end_within_a_character_are_the_mean_of_their_parts():
    base = Tokenizer(models.BPE({letter: row for row, letter in enumerate("abcd")}, []))
    weight = torch.tensor([[1.0, 0], [0, 1], [4, 4], [0, 0]])
    learned = Learned(
        tokens=["ab", "abc", "cd", "abcd", "dd"],
        surfaces=["", "나", "", "", ""],
        merges=[("a", "b"), ("ab", "c"), ("c", "d"), ("abc", "d"), ("ab", "cd"), ("d", "d")],
    )
    given = torch.full((5, 2), 7.0)
    rows = join_parts(base, weight, live_rows(base, weight), learned, given)
    mean = weight[:3].mean(0).tolist()
    assert rows.tolist() == [[0.5, 0.5], [7, 7], [4, 4], [7, 7], mean]  # "d" is dead: its share goes to the other part


SPACE = {"position": {}, "mean": {}, "distill": {}, "random": {}, "focus": {}, "semantic": {"top_k": 3, "csls": 2}}


@pytest.mark.parametrize("initializer", SPACE)
def test_rows_are_finite_repeatable_and_free_of_surplus_rows(initializer, wordpiece, bert_directory):
    learned = learn_wordpiece(wordpiece, KOREAN * 5, 40, ["창문"])
    settings = Vocab(initializer=initializer, semantic_space=str(bert_directory), **SPACE[initializer])
    weight = matrix(wordpiece)
    rows = first_rows(wordpiece, weight, learned, KOREAN * 5, settings, seed=1)
    assert rows.shape == (len(learned.tokens), HIDDEN) and rows.dtype == torch.float32
    assert rows.abs().max() < 10
    assert torch.equal(rows, first_rows(wordpiece, weight, learned, KOREAN * 5, settings, seed=1))


@pytest.mark.parametrize("initializer", ["mean", "position", "focus"])
def test_byte_level_scaffolding_is_joined_whatever_the_initializer(initializer, byte_level):
    learned = learn_bpe(byte_level, KOREAN * 5, 60)
    weight = matrix(byte_level)
    rows = first_rows(byte_level, weight, learned, KOREAN * 5, Vocab(initializer=initializer), seed=1)
    scaffolding = [number for number, surface in enumerate(learned.surfaces) if not surface]
    assert scaffolding
    known = {token: weight[row] for token, row in byte_level.get_vocab().items()}
    known.update(zip(learned.tokens, rows, strict=True))
    parts = {left + right: (left, right) for left, right in reversed(learned.merges)}
    for number in scaffolding:
        left, right = parts[learned.tokens[number]]
        torch.testing.assert_close(rows[number], (known[left] + known[right]) / 2)


def test_distill_starts_semantic(wordpiece, bert_directory):
    learned = learn_wordpiece(wordpiece, KOREAN, 20)
    both = [Vocab(initializer=name, semantic_space=str(bert_directory)) for name in ("semantic", "distill")]
    assert torch.equal(*(first_rows(wordpiece, matrix(wordpiece), learned, [], settings, 0) for settings in both))


def test_a_base_without_words_cannot_be_semantic():
    with pytest.raises(InputError, match="holds no word"):
        initialize_semantic({}, torch.ones(3, 2), ["물"], lambda texts: np.ones((len(texts), 2), np.float32))
