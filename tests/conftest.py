"""Tiny real objects: a 2-layer BERT and a 2-layer Qwen3 with tokenizers made here, as sentence-transformers models."""

import random
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

ENGLISH = [
    "the",
    "open",
    "window",
    "door",
    "light",
    "room",
    "water",
    "market",
    "train",
    "ticket",
    "weather",
    "rain",
    "doctor",
    "school",
    "house",
    "price",
]
KOREAN = [
    "창문을 열어 두면 방이 금방 시원해진다.",
    "시장에서 산 사과가 아주 달고 맛있어요.",
    "기차표를 미리 예매하지 않으면 자리가 없다.",
    "비가 오는 날에는 버스가 늦게 도착합니다.",
    "의사는 물을 자주 마시라고 말했다.",
    "학교 앞 도로에서 공사가 한창이다.",
]
PAIRS = [("open the window", "창문을 열어요"), ("the price of water", "물의 가격"), ("train ticket", "기차표입니다")]


@pytest.fixture(scope="session")
def wordpiece() -> Tokenizer:
    """An uncased English WordPiece tokenizer like BERT's, jamo and letters of other scripts included."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,'?!-"
    jamo = [chr(code) for code in (*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3))]
    bengali = [chr(code) for code in range(0x0985, 0x09E0)]
    pieces = [*letters, *jamo, *bengali, *ENGLISH]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces, *(f"##{piece}" for piece in pieces)]
    tokenizer = Tokenizer(WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tokenizer


@pytest.fixture(scope="session")
def bert_directory(wordpiece: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random 2-layer BERT saved as a sentence-transformers model."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=wordpiece.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    network = BertModel(config, add_pooling_layer=False)
    return save(network, bert_tokenizer(wordpiece), "mean", tmp_path_factory.mktemp("bert"))


def bert_tokenizer(wordpiece: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer with BERT's special tokens, and no token types, which few models have."""
    special = {
        name: f"[{name[:-6].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    }
    read = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=wordpiece, model_max_length=128, model_input_names=read, **special)


@pytest.fixture(scope="session")
def qwen3_directory(wordpiece: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random 2-layer Qwen3 decoder, last-token pooling, left padding."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=wordpiece.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=64,
        max_position_embeddings=128,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},  # as published; by default it is 1e4
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=wordpiece, model_max_length=128, padding_side="left", **special
    )
    return save(Qwen3Model(config), tokenizer, "lasttoken", tmp_path_factory.mktemp("qwen3"))


def save(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, pooling: str, folder: Path) -> Path:
    """A network as a sentence-transformers model, in a directory below ``folder``."""
    model.save_pretrained(folder / "transformers")
    tokenizer.save_pretrained(folder / "transformers")
    modules = [Transformer(str(folder / "transformers")), Pooling(32, pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"), create_model_card=False)
    return folder / "model"


@pytest.fixture(params=["bert", "qwen3"])
def model_directory(request: pytest.FixtureRequest) -> Path:
    """Both kinds of model in turn."""
    return request.getfixturevalue(f"{request.param}_directory")


@pytest.fixture
def rng() -> random.Random:
    return random.Random(0)
