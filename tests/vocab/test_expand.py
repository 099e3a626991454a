"""Stage 0 on every tokenizer family and the model it comes with: trim, learn, graft, initialise, save, reopen."""

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from conftest import ENGLISH, KOREAN, PAIRS
from koembed.config import Vocab
from koembed.corpus.data import Corpus, load_keep
from koembed.models import input_rows, output_rows
from koembed.vocab.bpe import HAS_HANGUL
from koembed.vocab.expand import Expansion, expand, unknown_per_word

FAMILIES = ["byte_level", "byte_fallback", "unigram", "wordpiece"]
BPE = ["byte_level", "byte_fallback"]
SENTENCES = [f"{first} the {second}" for first in ENGLISH for second in ENGLISH]
KEPT = [f"{first} the {second}" for first in ENGLISH[:6] for second in ENGLISH[:6]]
LEARN = Vocab(size=80, initializer="mean")
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
any_text = st.text(max_size=30) | st.lists(st.sampled_from([*"가뷁ㅋㅏᄒ각é東☆a1 .\n", *KOREAN, *ENGLISH])).map("".join)
without_hangul = any_text.filter(lambda text: not HAS_HANGUL.search(unicodedata.normalize("NFKC", text)))


def save(folder: Path, network: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, pooling: str, kind: str) -> Path:
    """A sentence-transformers model whose tokenizer opens under the class that real models of its kind name."""
    network.save_pretrained(folder / "parts")
    tokenizer.save_pretrained(folder / "parts")
    file = folder / "parts" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tokenizer_class": kind, "add_bos_token": False}))
    modules = [Transformer(str(folder / "parts")), Pooling(32, pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"), create_model_card=False)
    return folder / "model"


@pytest.fixture(scope="session")
def byte_level_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Qwen3-Embedding: spare rows, an end token after the text, left padding, a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>"])
    end = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
        padding_side="left",
        truncation_side="left",
        model_max_length=96,
        chat_template="<|im_start|>{{ messages[0].content }}",
    )
    torch.manual_seed(0)
    config = Qwen3Config(vocab_size=448, num_key_value_heads=2, head_dim=16, max_position_embeddings=128, **SHAPE)
    return save(tmp_path_factory.mktemp("qwen3"), Qwen3Model(config), fast, "lasttoken", "Qwen2Tokenizer")


@pytest.fixture(scope="session")
def byte_fallback_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Llama 2: SentencePiece's pieces and bytes."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    parts = json.loads(tokenizer.to_str())
    parts["added_tokens"] = parts["added_tokens"][:3]  # bytes are pieces, not added tokens
    tokenizer = Tokenizer.from_str(json.dumps(parts))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=96, **special)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=400, num_key_value_heads=4, max_position_embeddings=128, **SHAPE)
    return save(tmp_path_factory.mktemp("llama"), LlamaModel(config), fast, "mean", "PreTrainedTokenizerFast")


@pytest.fixture(scope="session")
def unigram_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As XLM-R: positions that count from the padding id, a mask token that takes the space before it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*SENTENCES, *"창문을열어두면방이.,?!:"], trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    others = {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=96, **special, **others)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size() + 5, max_position_embeddings=130, pad_token_id=1, **SHAPE
    )
    network = XLMRobertaModel(config, add_pooling_layer=False)
    return save(tmp_path_factory.mktemp("xlmr"), network, fast, "mean", "XLMRobertaTokenizer")


@pytest.fixture(scope="session")
def wordpiece_directory(bert_directory: Path) -> Path:
    """As MiniLM."""
    return bert_directory


@dataclass(frozen=True)
class Grown:
    """A family's base, expanded; the expanded model saved and opened again; its trimmed and expanded twin."""

    family: str
    base: SentenceTransformer
    model: SentenceTransformer
    expansion: Expansion
    reopened: SentenceTransformer
    trimmed: SentenceTransformer
    trimming: Expansion


@pytest.fixture(scope="module", params=FAMILIES)
def grown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Grown:
    directory = request.getfixturevalue(f"{request.param}_directory")
    base, model, trimmed = (SentenceTransformer(str(directory), device="cpu") for _ in range(3))
    expansion = expand(model, KOREAN * 5, ["사과"], LEARN, seed=0)
    trimming = expand(trimmed, KOREAN * 5, ["사과"], LEARN, seed=0, keep=[*KOREAN, *KEPT])
    place = tmp_path_factory.mktemp("grown")
    model.save(str(place), create_model_card=False)
    reopened = SentenceTransformer(str(place), device="cpu")
    return Grown(request.param, base, model, expansion, reopened, trimmed, trimming)


def ids(model: SentenceTransformer, text: str) -> list[int]:
    return model.tokenizer(text, add_special_tokens=False)["input_ids"]


def decode(model: SentenceTransformer, text: str) -> str:
    return model.tokenizer.decode(ids(model, text))


def test_korean_takes_fewer_tokens(grown):
    found = grown.expansion
    assert found.tokens
    assert found.unreachable == 0
    assert found.fertility[1] < found.fertility[0]
    assert found.unknown[1] == 0
    assert (found.unknown[0] > 0) == (grown.family == "unigram")  # the others know bytes or jamo
    assert (found.scaffolding > 0) == (grown.family == "byte_level")
    assert decode(grown.model, KOREAN[1]) == KOREAN[1]


def test_english_vectors_stay_bit_for_bit(grown):
    np.testing.assert_array_equal(grown.model.encode(SENTENCES[:40]), grown.base.encode(SENTENCES[:40]))
    old, new = input_rows(grown.base), input_rows(grown.model)
    assert torch.equal(new[: grown.expansion.first_new_row], old[: grown.expansion.first_new_row])


def test_the_report_counts_tokens_rows_and_parameters(grown):
    for model, found in ((grown.model, grown.expansion), (grown.trimmed, grown.trimming)):
        report = found.report()
        assert model.tokenizer.convert_ids_to_tokens(report["first_new_row"]) == found.tokens[0]
        assert report["rows"]["before"] == len(input_rows(grown.base))
        assert report["rows"]["after"] == len(input_rows(model)) == model[0].model.config.vocab_size
        added = report["rows"]["after"] - report["rows"]["before"]
        assert report["parameters"]["after"] - report["parameters"]["before"] == 32 * added
        assert len(model.tokenizer) == len(grown.base.tokenizer) - found.trimmed + len(found.tokens)
    assert grown.expansion.trimmed == 0 < grown.trimming.trimmed


def test_spare_rows_are_zero_and_get_no_gradient(grown):
    for model in (grown.model, grown.trimmed):
        spare = input_rows(model)[len(model.tokenizer) :]
        padded = len(input_rows(grown.base)) % 64 == 0
        assert len(spare) < 64
        assert len(input_rows(model)) % 64 == 0 if padded else len(spare) == 0
        assert not spare.any()
    features = grown.reopened.tokenize(KOREAN)
    grown.reopened.zero_grad()
    grown.reopened(features)["token_embeddings"].square().sum().backward()
    gradient = input_rows(grown.reopened).grad
    assert gradient[features["input_ids"].flatten()].any()
    assert not gradient[len(grown.reopened.tokenizer) :].any()


@settings(max_examples=60, deadline=None)
@given(any_text)
def test_saved_and_reopened_tokenizers_agree(grown, text):
    assert grown.reopened.tokenizer(text)["input_ids"] == grown.model.tokenizer(text)["input_ids"]
    assert decode(grown.reopened, text) == decode(grown.model, text)


def test_saved_and_reopened_models_agree_bit_for_bit(grown):
    texts = [*KOREAN, *SENTENCES[:10], KOREAN[0] * 20]
    np.testing.assert_array_equal(grown.reopened.encode(texts), grown.model.encode(texts))


@settings(max_examples=60, deadline=None)
@given(without_hangul)
def test_text_without_hangul_keeps_its_ids(grown, text):
    assert grown.model.tokenizer(text)["input_ids"] == grown.base.tokenizer(text)["input_ids"]


@settings(max_examples=60, deadline=None)
@given(any_text)
def test_bpe_gives_no_text_more_tokens_and_decodes_it_as_before(grown, text):
    if grown.family in BPE:
        assert len(ids(grown.model, text)) <= len(ids(grown.base, text))
        assert decode(grown.model, text) == decode(grown.base, text)


def test_special_tokens_and_settings_survive(grown):
    old = grown.base.tokenizer
    for new in (grown.model.tokenizer, grown.reopened.tokenizer):
        assert new.special_tokens_map == old.special_tokens_map
        assert new.all_special_ids == old.all_special_ids
        assert new.extra_special_tokens == old.extra_special_tokens
        for name in ("padding_side", "truncation_side", "model_max_length", "model_input_names", "chat_template"):
            assert getattr(new, name) == getattr(old, name), name
        for number in old.all_special_ids:  # lstrip and the like
            assert repr(new.added_tokens_decoder[number]) == repr(old.added_tokens_decoder[number])
        long = "open the window " * 60
        cut = {"truncation": True, "padding": True}
        assert new([long, "rain"], **cut)["input_ids"] == old([long, "rain"], **cut)["input_ids"]
    assert grown.trimmed.tokenizer.all_special_tokens == old.all_special_tokens


def test_an_end_token_still_follows_each_text(byte_level_directory):
    model = SentenceTransformer(str(byte_level_directory), device="cpu")
    expand(model, KOREAN * 5, [], LEARN, seed=0)
    for text in (KOREAN[0], "the rain", ""):
        assert model.tokenizer(text)["input_ids"][-1] == model.tokenizer.eos_token_id
    chat = model.tokenizer.apply_chat_template([{"role": "user", "content": "비"}], tokenize=False)
    assert chat == "<|im_start|>비"


def test_a_trimmed_model_keeps_the_vectors_of_kept_texts(grown):
    np.testing.assert_array_equal(grown.trimmed.encode(KEPT), grown.base.encode(KEPT))
    korean = [grown.model.tokenizer.convert_ids_to_tokens(ids(grown.model, text)) for text in KOREAN]
    assert [grown.trimmed.tokenizer.convert_ids_to_tokens(ids(grown.trimmed, text)) for text in KOREAN] == korean
    np.testing.assert_array_equal(grown.trimmed.encode(KOREAN), grown.model.encode(KOREAN))


def test_pieces_of_the_prompts_are_kept(byte_level_directory):
    for prompts, there in (({"query": "market: "}, True), ({}, False)):
        model = SentenceTransformer(str(byte_level_directory), device="cpu", prompts=prompts)
        assert "market" in model.tokenizer.get_vocab()
        expand(model, KOREAN * 5, [], LEARN, seed=0, keep=KOREAN)
        assert ("market" in model.tokenizer.get_vocab()) == there


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("keep", [[], [*KOREAN, *KEPT]])
def test_output_embeddings_follow(tied, keep, byte_level_directory, tmp_path):
    model = SentenceTransformer(str(byte_level_directory), device="cpu")
    config = model[0].model.config
    config.tie_word_embeddings = tied
    torch.manual_seed(0)
    model[0].model = network = Qwen3ForCausalLM(config)
    before = network.get_output_embeddings().weight.detach().clone()
    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    found = expand(model, KOREAN * 5, [], LEARN, seed=0, keep=keep)
    after = network.get_output_embeddings().weight
    assert after.shape == input_rows(model).shape
    assert (output_rows(model) is None) == tied == (after is input_rows(model))
    assert not after[len(model.tokenizer) :].any()
    old_ids = [
        tokenizer.token_to_id(token) for token in model.tokenizer.convert_ids_to_tokens(range(found.first_new_row))
    ]
    assert torch.equal(after[: found.first_new_row], before[old_ids])
    token = next(token for token in found.tokens if tokenizer.model.tokenize(token)[0].value != token)
    parts = [piece.id for piece in tokenizer.model.tokenize(token)]
    row = after[model.tokenizer.convert_tokens_to_ids(token)]
    torch.testing.assert_close(row, before[parts].mean(0))
    network.save_pretrained(tmp_path)
    reopened = Qwen3ForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(reopened.get_output_embeddings().weight, after)


def test_unknown_tokens_are_counted_by_id():
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
    assert unknown_per_word(unigram, ["a b", "cada"]) == 2 / 3 + 1 / 3
    assert unknown_per_word(Tokenizer(models.BPE({"a": 0}, [])), ["a a"]) == 0


def test_what_is_kept_is_named_in_the_config(tmp_path):
    (tmp_path / "more.jsonl").write_text('{"body": "bonjour"}\n', encoding="utf-8")
    corpus = Corpus(KOREAN[:1], PAIRS[:1], [], [])
    keep = load_keep(["texts", "bitext", str(tmp_path / "more.jsonl")], corpus, "body")
    assert keep == [KOREAN[0], *PAIRS[0], "bonjour"]
