"""Continued BPE on small tokenizers of each kind; `train_in_python` is the oracle of what Rust's trainer must find."""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from koembed.errors import InputError
from koembed.vocab import bpe, counting
from koembed.vocab.bpe import (
    FREQUENCY,
    HAS_HANGUL,
    LETTERS,
    Pair,
    compression,
    count_pretokens,
    encode_runs,
    graft_bpe,
    learn_bpe,
    read_base,
)
from koembed.vocab.learn import family
from koembed.vocab.learned import Learned

ENGLISH = [
    "The window of the room was open, and the light of the morning came in with the rain.",
    "A ticket for the train costs 12 dollars; the price of water in the market is 3 dollars.",
    "for (int i = 0; i < 10; i++) {\n    print(i);\n}",
    "Le café était fermé. 東京 は 雨 です。 Привет, мир!",
]
# What the base has seen of Korean: some syllables whole, some as bytes, some merges across them.
SEEN = ["비가 오는 날에는 버스가 늦게 도착합니다.", "나는 학교에 가는 길이다.", "하는 일이 많은 나라"]
KOREAN = [
    "창문을 열어 두면 방이 금방 시원해진다.",
    "시장에서 산 사과가 아주 달고 맛있어요ㅋㅋㅋㅋ",
    "기차표를 미리 예매하지 않으면 자리가 없다. 기차표가 비싸다.",
    "비가 오는 날에는 버스가 늦게 도착합니다.",
    "의사는 물을 자주 마시라고 말했다. (의사는) 뷁 똠양꿍",
    "학교 앞 도로에서 공사가 한창이다. 3월에 iPhone을 샀다.",
    "학교에서는 시장에서 산 사과를 먹는다ㅋㅋㅋㅋㅋ",
    "두  칸  띄어  쓴  사과,  두  칸  띄어  쓴  사과",
    "café에서 학교에서의 東京은 12시에, 창문을 열어 두면",
]
WORDS = ["인공지능", "대한민국", "뷁뷁이"]
KINDS = ("qwen3", "llama3", "smollm2", "llama2", "gemma")
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(kind: str) -> Tokenizer:
    """A tokenizer built like that of Qwen3, Llama 3 or SmolLM2; its special token is no token of the model."""
    tokenizer = Tokenizer(BPE(ignore_merges=kind == "llama3"))
    first = {
        "qwen3": pre_tokenizers.Split(Regex(GPT4), "isolated"),
        "llama3": pre_tokenizers.Split(Regex(GPT4), "isolated"),
        "smollm2": pre_tokenizers.Digits(individual_digits=True),
    }[kind]
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "smollm2")
    if kind == "qwen3":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, letters])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(ENGLISH * 5 + SEEN, trainer)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def sentencepiece(kind: str) -> Tokenizer:
    """A tokenizer built like that of Llama 2 (``▁`` put before the text, no pre-tokenizer) or Gemma."""
    special = ["<unk>", "<s>", "</s>"]
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if kind == "llama2" else "never")
    trainer = BpeTrainer(vocab_size=600, special_tokens=[*special, *fallback], show_progress=False)
    tokenizer.train_from_iterator(ENGLISH * 5 + SEEN, trainer)
    parts = json.loads(tokenizer.to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["content"] in special]
    parts["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(parts))
    tail: list[decoders.Decoder] = []
    if kind == "llama2":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace])
        tail = [decoders.Strip(" ", 1, 0)]
    else:
        tokenizer.normalizer = replace
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *tail])
    return tokenizer


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest) -> Tokenizer:
    return sentencepiece(request.param) if request.param in ("llama2", "gemma") else byte_level(request.param)


@pytest.fixture(scope="module")
def learned(base: Tokenizer) -> Learned:
    return learn_bpe(base, KOREAN * 2, 120, WORDS)


@pytest.fixture(scope="module")
def grown(base: Tokenizer, learned: Learned) -> Tokenizer:
    return graft_bpe(base, learned)


def train_in_python(runs: Mapping[str, int], merges: int) -> list[Pair]:
    """BPE with pair counts kept up to date: the most frequent pair first, of equals the one of the oldest parts."""
    age = {char: number for number, char in enumerate(sorted(set().union(*runs)))}
    words, weights = [list(run) for run in runs], list(runs.values())
    counts: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, (word, weight) in enumerate(zip(words, weights, strict=True)):
        for pair in itertools.pairwise(word):
            counts[pair] += weight
            places[pair].add(number)
    found: list[Pair] = []
    while counts and len(found) < merges:
        best = max(counts, key=lambda pair: (counts[pair], -age[pair[0]], -age[pair[1]]))
        if counts[best] < FREQUENCY:
            break
        found.append(best)
        age.setdefault("".join(best), len(age))
        for number in places.pop(best):
            old, weight = words[number], weights[number]
            words[number] = new = join(old, best)
            for pair in itertools.pairwise(old):
                counts[pair] -= weight
            for pair in itertools.pairwise(new):
                counts[pair] += weight
                places[pair].add(number)
        del counts[best]
    return found


def join(word: list[str], pair: Pair) -> list[str]:
    """The word with each occurrence of the pair made one symbol, from the left."""
    joined, at = [], 0
    while at < len(word):
        step = 2 if (word[at], *word[at + 1 : at + 2]) == pair else 1
        joined.append("".join(word[at : at + step]))
        at += step
    return joined


# Letters whose UTF-8 begins or ends as Hangul's does, and what else stands beside Hangul in texts.
NEAR = "ကᄀჿ㄀ㄅㄱㅋㆎ㆏㆐㆚ꀀꥀ꥟ꥠꥼꦀ꯿가힣ힰ"
ALPHABET = sorted({*"".join(KOREAN + ENGLISH + WORDS), *NEAR, "▁", "\u0301", "\ufeff", "한", "글", "🙂"})
mixed = (
    st.text()
    | st.text(st.sampled_from(ALPHABET))
    | st.lists(st.sampled_from(KOREAN + WORDS + [" ", "\n"])).map("".join)
)
no_hangul = mixed.map(lambda text: HAS_HANGUL.sub("", text))


@settings(max_examples=300, deadline=None)
@given(runs=st.dictionaries(st.text("abcde", min_size=2, max_size=9), st.integers(1, 9), min_size=1))
def test_rust_finds_the_merges_of_plain_python(runs):
    assert bpe.train(runs, 40) == train_in_python(runs, 50)


def test_real_runs_give_the_merges_of_plain_python(base):
    runs, _ = encode_runs(*(read := read_base(base), count_pretokens(read, KOREAN * 2)))
    found = bpe.train(runs, 80)
    assert found == train_in_python(runs, 100)
    assert len(found) == 100


@settings(max_examples=300, deadline=None)
@given(text=mixed)
def test_text_decodes_as_before_from_no_more_tokens(base, grown, text):
    before, after = base.encode(text), grown.encode(text)
    assert grown.decode(after.ids) == base.decode(before.ids)
    assert len(after.ids) <= len(before.ids)


@settings(max_examples=300, deadline=None)
@given(text=no_hangul)
def test_text_without_hangul_keeps_its_ids(base, grown, text):
    assert grown.encode(text).ids == base.encode(text).ids


def test_every_whole_token_fires_on_its_own_text(base, learned, grown):
    read = read_base(base)
    for token, surface in zip(learned.tokens, learned.surfaces, strict=True):
        if surface:
            text = read.text(token)
            assert text in (surface, f" {surface}")
            assert grown.encode(f"a{text}").tokens[-1] == token
            if read.byte_level:
                assert grown.encode(text).tokens == [token]


def test_tokens_join_hangul_with_nothing_else(learned):
    for surface in filter(None, learned.surfaces):
        assert all(HAS_HANGUL.match(char) for char in surface), surface


def test_the_budget_is_met_and_ids_follow_the_highest(base, learned, grown):
    assert len(learned.tokens) == len(set(learned.tokens)) == 120
    assert [grown.token_to_id(token) for token in learned.tokens] == list(
        range(base.get_vocab_size(), base.get_vocab_size() + 120)
    )
    vocab = grown.get_vocab()
    assert all(vocab[token] == row for token, row in base.get_vocab().items())


def test_korean_gets_much_shorter(base, grown):
    def total(tokenizer):
        return sum(len(tokenizer.encode(text).ids) for text in KOREAN)

    assert total(grown) < 0.5 * total(base)


def test_words_become_tokens(base):
    read = read_base(base)
    learned = learn_bpe(base, KOREAN * 2, 300, WORDS)
    texts = {read.text(token) for token in learned.tokens}
    assert texts.issuperset(form for word in WORDS for form in (word, f" {word}"))
    assert not {*WORDS} & {*learn_bpe(base, KOREAN * 2, 300).surfaces}


def test_scaffolding_is_kept_only_for_tokens_that_need_it(base, learned):
    pieces = [token for token, surface in zip(learned.tokens, learned.surfaces, strict=True) if not surface]
    assert bool(pieces) == read_base(base).byte_level
    assert learned.scaffolding == len(pieces)
    assert {*pieces} <= {left for left, _ in learned.merges}


def test_saved_and_reloaded_tokenizers_agree(grown, learned, tmp_path: Path):
    grown.save(str(tmp_path / "tokenizer.json"))
    reloaded = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = [*KOREAN, *ENGLISH, "<|endoftext|> 한국<s>"]
    assert [reloaded.encode(text).ids for text in texts] == [grown.encode(text).ids for text in texts]
    assert reloaded.get_vocab() == grown.get_vocab()


def test_both_ways_of_writing_merges_are_read(base, learned, grown):
    parts = json.loads(base.to_str())
    parts["model"]["merges"] = [" ".join(pair) for pair in parts["model"]["merges"]]
    old = Tokenizer.from_str(json.dumps(parts))
    assert learn_bpe(old, KOREAN * 2, 120, WORDS) == learned
    assert graft_bpe(old, learned).to_str() == grown.to_str()


def test_learning_can_go_on_from_a_grown_tokenizer(grown, learned):
    more = learn_bpe(grown, KOREAN * 2, 20)
    assert len(more.tokens) == 20
    assert not {*more.tokens} & {*learned.tokens}


def test_a_corpus_without_hangul_gives_nothing(base):
    assert learn_bpe(base, ENGLISH, 100) == Learned([], [])


def test_counting_is_bounded_by_forgetting_the_rarest(monkeypatch):
    monkeypatch.setattr(counting, "DISTINCT", 20)
    monkeypatch.setattr(counting, "CHUNK", 4)
    monkeypatch.setattr(counting, "ALONE", 1_000)
    rare = [f"{chr(0xAC00 + number)}{chr(0xB000 + number)}" for number in range(500)]
    texts = (text for word in rare for text in ("학교에서 시장에서", word))
    counts = count_pretokens(read_base(byte_level("qwen3")), texts)
    assert len(counts) <= 20
    assert sorted(counts.values())[-3:] == [1, 500, 500]


def test_other_processes_count_the_same(base, monkeypatch):
    monkeypatch.setattr(counting, "CHUNK", 60)
    monkeypatch.setattr(counting, "DISTINCT", 12)  # so that what is forgotten when shows
    read = read_base(base)
    alone = count_pretokens(read, KOREAN * 2)
    monkeypatch.setattr(counting, "ALONE", 1)
    spread = count_pretokens(read, KOREAN * 2)
    assert list(spread.items()) == list(alone.items())


def test_the_curve_holds_for_every_smaller_vocabulary(base, learned):
    read, counts = read_base(base), count_pretokens(read_base(base), KOREAN)
    curve = compression(read, learned, counts)
    assert curve.sizes == list(range(0, 121, 3))
    for size, total in zip(curve.sizes, curve.tokens, strict=True):
        smaller = graft_bpe(base, first_tokens(base, learned, size)).model
        assert sum(count * len(smaller.tokenize(word)) for word, count in counts.items()) == total


def first_tokens(base: Tokenizer, learned: Learned, size: int) -> Learned:
    """The first ``size`` tokens, and the merges up to the first that makes another."""
    tokens = learned.tokens[:size]
    known = {*base.get_vocab(), *tokens}
    merges = list(itertools.takewhile(lambda pair: "".join(pair) in known, learned.merges))
    return Learned(tokens, learned.surfaces[:size], merges)


def test_the_size_is_found_at_the_knee(base):
    learned = learn_bpe(base, KOREAN * 20, "auto", WORDS)
    assert learned.curve.sizes[-1] > len(learned.tokens) == learned.curve.knee > 0
    assert learned.curve.report()["knee"] == learned.curve.knee


def test_no_piece_of_a_syllable_is_learned_that_another_script_shares(base):
    # ㄱ and ㄅ (Bopomofo) share two bytes of three, ꥠ (Jamo) and ꥊ (Rejang) too.
    learned = learn_bpe(base, ["ㄱㄴㄱㄴ ꥠꥡꥠꥡ ㄱㄴ ㅏㅑ"] * 9, 60)
    grown = graft_bpe(base, learned)
    assert learned.tokens
    for text in ("ㄅㄆㄇ ㄅㄆ", "ꥊꥋ ꥊ"):
        assert grown.encode(text).ids == base.encode(text).ids


def test_a_merge_may_lead_to_a_token_of_the_base_and_never_moves_one_of_its_merges():
    # 나다 is merged first, so the base never gets to 가나다, nor from there to 가나다라.
    vocab = {token: row for row, token in enumerate(["<unk>", *"가나다라", "나다", "가나", "가나다", "가나다라"])}
    base = Tokenizer(BPE(vocab, [("나", "다"), ("가", "나"), ("가나", "다"), ("가나다", "라")], unk_token="<unk>"))
    assert base.encode("가나다라").tokens == ["가", "나다", "라"]
    learned = learn_bpe(base, ["가나다라"] * 3, 5)
    assert learned == Learned([], [], [("가", "나다")])
    assert graft_bpe(base, learned).encode("가나다라").tokens == ["가나다라"]


def test_a_token_that_no_bytes_spell_has_no_text():
    """Some vocabularies hold such tokens, which nothing is ever cut into."""
    tokenizer = Tokenizer(BPE(vocab={LETTERS[0x61]: 0, "of the": 1}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    read = read_base(tokenizer)
    assert [read.text(token) for token in (LETTERS[0x61], "of the")] == ["a", ""]


def test_bpe_with_word_end_marks_is_refused():
    with pytest.raises(InputError, match="cannot be expanded"):
        learn_bpe(Tokenizer(BPE(end_of_word_suffix="</w>")), KOREAN, 10)


def test_the_family_is_known(base):
    assert family(base) == (learn_bpe, graft_bpe)
