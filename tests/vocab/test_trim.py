import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordLevel
from tokenizers.trainers import BpeTrainer, UnigramTrainer
from transformers import (
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from conftest import ENGLISH, KOREAN
from koembed.errors import InputError
from koembed.models import input_rows
from koembed.vocab.trim import trim, trim_model
from koembed.vocab.unigram import graft_unigram, learn_unigram

RUSSIAN = ["открой", "окно", "вода", "рынок", "поезд", "погода", "школа", "цена"]
KEPT = [*ENGLISH, *(word for text in KOREAN for word in text.split())]
FAMILIES = ["unigram", "wordpiece", "byte_level", "byte_fallback"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
CORPUS = [" ".join(words) for words in (ENGLISH, RUSSIAN, KEPT[len(ENGLISH) :])] * 20


@pytest.fixture(scope="module")
def unigram() -> Tokenizer:
    """Like XLM-R's: specials first, an added token beyond the vocabulary."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = UnigramTrainer(vocab_size=260, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    """Like Qwen3's and GPT-2's, ended by a special token that is not in the vocabulary."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens(["<end>"])
    end = tokenizer.token_to_id("<end>")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", end)])
    return tokenizer


@pytest.fixture(scope="module")
def byte_fallback() -> Tokenizer:
    """Like Llama 2's and Gemma's: characters, bytes, and every merge that makes a token, not one alone."""
    learner = Tokenizer(BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    learner.train_from_iterator(CORPUS, BpeTrainer(vocab_size=250, show_progress=False))
    parts = json.loads(learner.to_str())
    specials = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{byte:02X}>": 3 + byte for byte in range(256)}}
    pieces = sorted(parts["model"]["vocab"], key=parts["model"]["vocab"].get)
    vocab = {**specials, **{piece: len(specials) + i for i, piece in enumerate(pieces)}}
    merges = [(piece[:cut], piece[cut:]) for piece in pieces for cut in range(1, len(piece))]
    merges = [pair for pair in merges if pair[0] in vocab and pair[1] in vocab]
    tokenizer = Tokenizer(BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    return tokenizer


@pytest.fixture(scope="module", params=FAMILIES)
def trimmed(request: pytest.FixtureRequest) -> tuple[Tokenizer, Tokenizer, list[int]]:
    """The base, the trimmed one, and the old ids."""
    base = request.getfixturevalue(request.param)
    return (base, *trim(base, KEPT))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(KEPT)).map(" ".join)
    | st.text(alphabet=st.sampled_from("창문을 열어opentherwdкно☆é.,"), max_size=12)
)
def test_text_of_kept_pieces_is_cut_as_before(trimmed, text):
    base, small, old_ids = trimmed
    before, after = base.encode(text), small.encode(text)
    if set(before.ids) <= set(old_ids):
        assert after.tokens == before.tokens
        assert [old_ids[i] for i in after.ids] == before.ids
        assert small.decode(after.ids) == base.decode(before.ids)


def test_pieces_of_other_languages_go_and_those_in_use_stay(trimmed):
    base, small, old_ids = trimmed
    assert old_ids == sorted(set(old_ids))
    assert len(old_ids) == small.get_vocab_size() < base.get_vocab_size()
    assert {id for text in KEPT for id in base.encode(text).ids} <= set(old_ids)
    assert [base.id_to_token(old) for old in old_ids] == [small.id_to_token(new) for new in range(len(old_ids))]


def test_special_tokens_stay_and_are_found(trimmed):
    base, small, old_ids = trimmed
    specials = [(token.content, token.special) for _, token in sorted(base.get_added_tokens_decoder().items())]
    assert [(one.content, one.special) for _, one in sorted(small.get_added_tokens_decoder().items())] == specials
    text = "".join(content for content, _ in specials)
    assert [old_ids[i] for i in small.encode(text).ids] == base.encode(text).ids


def test_trimming_again_drops_nothing_and_saves(trimmed, tmp_path):
    _, small, old_ids = trimmed
    again, same_ids = trim(small, KEPT)
    assert same_ids == list(range(len(old_ids)))
    again.save(str(tmp_path / "tokenizer.json"))
    reloaded = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [reloaded.encode(text).ids for text in KEPT] == [small.encode(text).ids for text in KEPT]


def test_padding_and_truncation_follow(unigram):
    base = Tokenizer.from_str(unigram.to_str())
    base.enable_padding(pad_id=base.token_to_id("<mask>"), pad_token="<mask>", length=12)
    base.enable_truncation(2)
    small, old_ids = trim(base, KEPT)
    assert small.padding["pad_id"] == small.token_to_id("<mask>") == len(old_ids) - 1
    assert small.truncation["max_length"] == 2
    assert "▁school" in small.get_vocab() or small.encode("school").tokens == base.encode("school").tokens


def test_the_lowest_score_stays_because_unknown_characters_are_scored_by_it():
    vocab = [("<unk>", 0.0), ("ж", -30.0), ("yx", -20.0), ("b", -20.0), ("xb", -1.0)]
    base = Tokenizer(Unigram(vocab, unk_id=0))
    small, _ = trim(base, ["yxb", "xb"])
    assert small.encode("yxb").tokens == base.encode("yxb").tokens == ["yx", "b"]


def test_expanding_a_trimmed_tokenizer_and_trimming_an_expanded_one(unigram):
    small, old_ids = trim(unigram, KEPT)
    learned = learn_unigram(small, KOREAN * 10, 30)
    grown = graft_unigram(small, learned)
    assert [grown.encode(word).tokens for word in ENGLISH] == [unigram.encode(word).tokens for word in ENGLISH]
    assert len(grown.encode(KOREAN[0]).ids) < len(unigram.encode(KOREAN[0]).ids)
    assert [grown.id_to_token(i) for i in range(len(old_ids))] == [unigram.id_to_token(old) for old in old_ids]
    regrown, _ = trim(graft_unigram(unigram, learn_unigram(unigram, KOREAN * 10, 30)), KEPT)
    assert [regrown.encode(text).tokens for text in KEPT] == [grown.encode(text).tokens for text in KEPT]


def xlm_roberta(tokenizer: Tokenizer, pad: str, folder: Path) -> SentenceTransformer:
    """A random 2-layer XLM-R with rows to spare."""
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size() + 11,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=130 + tokenizer.token_to_id(pad),
        pad_token_id=tokenizer.token_to_id(pad),
    )
    special = {"bos_token": "<s>", "pad_token": pad, "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=128, **special)
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    fast.save_pretrained(folder)
    return SentenceTransformer(modules=[Transformer(str(folder)), Pooling(32, "mean"), Normalize()], device="cpu")


def test_vectors_stay_bit_for_bit(unigram, tmp_path):
    model = xlm_roberta(unigram, "<pad>", tmp_path / "base")
    texts = [*KOREAN, *KEPT, "the <mask> of water"]
    vectors, rows = model.encode(texts), input_rows(model).detach().clone()
    small, old_ids = trim(unigram, texts)
    trim_model(model, small, old_ids)
    np.testing.assert_array_equal(model.encode(texts), vectors)
    assert torch.equal(input_rows(model), rows[old_ids])
    network = model[0].model
    assert network.config.vocab_size == len(old_ids)
    assert network.config.pad_token_id == network.get_input_embeddings().padding_idx == small.token_to_id("<pad>")
    assert model.tokenizer.mask_token_id == small.token_to_id("<mask>")
    model.save(str(tmp_path / "small"), create_model_card=False)
    np.testing.assert_array_equal(SentenceTransformer(str(tmp_path / "small"), device="cpu").encode(texts), vectors)


def test_other_families_keep_their_vectors(model_directory, wordpiece):
    model = SentenceTransformer(str(model_directory), device="cpu")
    texts = ["open the window", "train ticket, 3 houses"]
    vectors = model.encode(texts)
    small, old_ids = trim(wordpiece, texts)
    trim_model(model, small, old_ids)
    np.testing.assert_array_equal(model.encode(texts), vectors)


def test_an_untied_head_is_cut_likewise_and_ids_are_renumbered(byte_level, qwen3_directory):
    end = byte_level.token_to_id("<end>")
    config = Qwen3Config(
        vocab_size=end + 1,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=16,
        tie_word_embeddings=False,
        eos_token_id=[end, 5_000],
        bos_token_id=end,
    )
    model = SentenceTransformer(str(qwen3_directory), device="cpu")
    network = Qwen3ForCausalLM(config)
    model[0].model = network
    model[0].processor = PreTrainedTokenizerFast(tokenizer_object=byte_level, model_max_length=64, eos_token="<end>")
    head = network.get_output_embeddings().weight.detach().clone()
    small, old_ids = trim(byte_level, KEPT)
    trim_model(model, small, old_ids)
    assert torch.equal(network.get_output_embeddings().weight, head[old_ids])
    assert (network.config.eos_token_id, network.config.bos_token_id) == ([len(old_ids) - 1], len(old_ids) - 1)


def test_the_bias_of_tied_output_embeddings_is_cut_likewise(bert_directory, wordpiece):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    torch.manual_seed(0)
    model[0].model = network = BertForMaskedLM(model[0].model.config).eval()
    torch.nn.init.normal_(network.get_output_embeddings().bias)
    small, old_ids = trim(wordpiece, KEPT)
    text = "open the window"
    with torch.no_grad():
        before = network(torch.tensor([wordpiece.encode(text).ids])).logits
        trim_model(model, small, old_ids)
        after = network(torch.tensor([small.encode(text).ids])).logits
    assert len(old_ids) < wordpiece.get_vocab_size()
    torch.testing.assert_close(after, before[..., old_ids])


def test_a_moved_padding_id_is_refused_where_positions_count_from_it(unigram, tmp_path):
    model = xlm_roberta(unigram, "<mask>", tmp_path)
    before = input_rows(model).shape
    with pytest.raises(InputError, match="positions count from the padding id"):
        trim_model(model, *trim(unigram, KEPT))
    assert input_rows(model).shape == before


def test_what_cannot_be_trimmed_is_refused(unigram):
    with pytest.raises(InputError, match="family WordLevel cannot be trimmed"):
        trim(Tokenizer(WordLevel({"a": 0}, unk_token="a")), ["a"])
    with pytest.raises(InputError, match="texts to keep are empty"):
        trim(unigram, [""])
