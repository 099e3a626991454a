"""Stage 0 on every tokenizer family: learn, graft, initialise, save, reopen."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from conftest import ENGLISH, KOREAN
from koembed.config import Vocab
from koembed.vocab.expand import expand

SENTENCES = [f"{first} the {second}" for first in ENGLISH for second in ENGLISH]


def byte_level() -> Tokenizer:
    """As Qwen3, Llama 3 and SmolLM2 have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<pad>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    """As XLM-R and multilingual-e5 have it, Hangul letters included."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<pad>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    letters = sorted({letter for text in KOREAN for letter in text})
    tokenizer.train_from_iterator([*SENTENCES, *letters], trainer)
    return tokenizer


@pytest.mark.parametrize("family", [byte_level, unigram])
@pytest.mark.parametrize("initializer", ["mean", "random"])
def test_a_model_of_the_family_reads_korean_in_fewer_tokens(family, initializer, tmp_path):
    torch.manual_seed(0)
    tokenizer = family()
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "base")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=256, pad_token="<pad>")
    wrapped.save_pretrained(tmp_path / "base")
    model = SentenceTransformer(modules=[Transformer(str(tmp_path / "base")), Pooling(32, "mean")], device="cpu")
    english = model.encode(SENTENCES[:20])
    expansion = expand(model, KOREAN * 20, [], Vocab(pieces=60, initializer=initializer), seed=0)
    assert expansion.tokens
    assert expansion.unreachable == 0
    assert expansion.fertility[1] < expansion.fertility[0]
    np.testing.assert_array_equal(model.encode(SENTENCES[:20]), english)
    assert model.tokenizer.decode(model.tokenizer(KOREAN[0], add_special_tokens=False)["input_ids"]) == KOREAN[0]
    model.save(str(tmp_path / "grown"), create_model_card=False)
    reopened = SentenceTransformer(str(tmp_path / "grown"), device="cpu")
    np.testing.assert_array_equal(reopened.encode(KOREAN), model.encode(KOREAN))
