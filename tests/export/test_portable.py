"""Exported models open with what servers have: sentence-transformers 5 on transformers 4, as published."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.dense import Dense
from torch import nn
from transformers import ModernBertConfig, ModernBertModel

from conftest import KOREAN, bert_tokenizer, save
from koembed.export.portable import make_portable, pooling, rotary, tokenizer
from koembed.storage import read_json

EARLIER = (
    "sentence-transformers==5.1.2",
    "transformers==4.57.3",
    "tokenizers==0.22.1",
    "huggingface-hub==0.36.0",
    "requests==2.32.5",
)
# What is installed here and needs the later versions; sentence-transformers imports it where it is there.
LATER = ("datasets", "peft", "accelerate", "mteb", "koembed", *(name.partition("==")[0] for name in EARLIER))


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Directories to import the earlier versions from, and from the second the rest as it is installed here."""
    place, rest = tmp_path_factory.mktemp("earlier"), tmp_path_factory.mktemp("rest")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place), *EARLIER]
    subprocess.run(install, check=True)
    for package in Path(sentence_transformers.__file__).parents[1].iterdir():
        if not package.name.replace("_", "-").startswith(LATER):
            (rest / package.name).symlink_to(package)
    return [str(place), str(rest)]


def vectors_by(earlier: list[str], directory: Path) -> np.ndarray:
    """What the earlier versions make of the Korean sentences, and nothing else in sight."""
    code = (
        f"import sys, json; sys.path += {earlier!r}\n"
        "import sentence_transformers, transformers\n"
        "assert sentence_transformers.__version__[0] == '5' and transformers.__version__[0] == '4'\n"
        f"model = sentence_transformers.SentenceTransformer({str(directory)!r}, device='cpu')\n"
        f"print(json.dumps(model.encode({KOREAN!r}).tolist()))"
    )
    found = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    return np.array(json.loads(found.stdout.splitlines()[-1]))


def saved(directory: Path, place: Path) -> SentenceTransformer:
    """A model with a projection on top, saved in the words of all versions."""
    model = SentenceTransformer(str(directory), device="cpu")
    torch.manual_seed(0)
    model.append(Dense(32, 16, activation_function=nn.Tanh()))
    model.max_seq_length = 12
    model.save(str(place), create_model_card=False)
    make_portable(place)
    return model


def test_earlier_versions_give_the_same_vectors(model_directory, tmp_path, earlier):
    expected = saved(model_directory, tmp_path / "model").encode(KOREAN)
    np.testing.assert_allclose(vectors_by(earlier, tmp_path / "model"), expected, atol=1e-6)


def test_positions_of_two_kinds_of_layer_are_read_by_earlier_versions(wordpiece, tmp_path, earlier):
    """ModernBERT's, neither of them what transformers 4 takes by default."""
    kinds = {"full_attention": 3e4, "sliding_attention": 2e3}
    config = ModernBertConfig(
        vocab_size=wordpiece.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        local_attention=8,
        rope_parameters={kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in kinds.items()},
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0),
    )
    torch.manual_seed(0)
    directory = save(ModernBertModel(config), bert_tokenizer(wordpiece), "mean", tmp_path / "modernbert")
    expected = saved(directory, tmp_path / "model").encode(KOREAN)
    np.testing.assert_allclose(vectors_by(earlier, tmp_path / "model"), expected, atol=1e-6)


def test_this_version_gives_the_same_vectors(model_directory, tmp_path):
    expected = saved(model_directory, tmp_path / "model").encode(KOREAN)
    opened = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    np.testing.assert_array_equal(opened.encode(KOREAN), expected)
    assert opened.max_seq_length == 12


def test_without_their_words_earlier_versions_do_not_open_it(bert_directory, tmp_path, earlier):
    """What the module is for; when it fails, the module can go."""
    shutil.copytree(bert_directory, tmp_path / "model")
    with pytest.raises(AssertionError, match=r"No module named 'sentence_transformers\.base'"):
        vectors_by(earlier, tmp_path / "model")


def test_several_ways_of_pooling_are_a_flag_each():
    found = pooling({"embedding_dimension": 8, "pooling_mode": ["cls", "max"], "include_prompt": False})
    flags = [name for name, value in found.items() if value is True]
    assert flags == ["pooling_mode_cls_token", "pooling_mode_max_tokens"]
    assert found["word_embedding_dimension"] == 8 and found["include_prompt"] is False


def test_further_special_tokens_keep_their_place():
    found = tokenizer({"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<a>"], "chat_template": None})
    assert found == {"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["<a>"]}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, {}),
        ({"rope_type": "default", "rope_theta": 1e6}, {"rope_theta": 1e6}),
        (
            {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0},
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 32.0}},
        ),
        (
            {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}},
            {
                "rope_theta": 1e6,
                "rope_local_base_freq": 1e4,
                "global_rope_theta": 1e6,
                "local_rope_theta": 1e4,
            },
        ),
    ],
)
def test_rotary_positions_in_the_words_of_transformers_4(parameters, expected):
    assert rotary(parameters) == expected


def test_the_weights_stay_as_they_are(bert_directory, tmp_path):
    shutil.copytree(bert_directory, tmp_path / "model")
    make_portable(tmp_path / "model")
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "model" / name).read_bytes() == (bert_directory / name).read_bytes()
    assert read_json(tmp_path / "model" / "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"
