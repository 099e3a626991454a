import copy

import numpy as np
import pytest
import torch
from rich.console import Console
from sentence_transformers import SentenceTransformer
from transformers import Gemma3TextConfig, Gemma3TextModel

from conftest import KOREAN
from koembed.config import Weights
from koembed.models import backbone, input_rows
from koembed.training.engine import train
from koembed.training.gate import Interpolation, snapshot
from koembed.training.trainable import low_rank, new_rows, train_only
from support import begun_at, built, killed_at

SETTINGS = {"learning_rate": 0.01, "epochs": 2, "batch_size": 4, "lora_rank": 2}


def opened(directory) -> tuple[SentenceTransformer, int]:
    """A model, and a row in the middle of those that the texts use: jamo inside words come after it."""
    model = SentenceTransformer(str(directory), device="cpu")
    return model, model.tokenizer.convert_tokens_to_ids("##\u1161")


def fit(model: SentenceTransformer, first_new_row: int, folder, **settings) -> set[str]:
    """Train; the names of the weights that changed."""
    before = snapshot(model)
    chosen = Weights(**{**SETTINGS, **settings})
    with train_only(model, chosen, first_new_row):
        objective = built("simcse", model)
        train(model, {"simcse": objective}, chosen, folder, "test", seed=0, console=Console(quiet=True))
    after = snapshot(model)
    assert after.keys() == before.keys()  # a plain model again
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def test_frozen_rows_stay_bit_for_bit(model_directory, tmp_path):
    model, first = opened(model_directory)
    before = input_rows(model).detach().clone()
    (name,) = fit(model, first, tmp_path, trains="new_rows")
    assert "embed" in name
    rows = input_rows(model)
    assert torch.equal(rows[:first], before[:first])
    assert not torch.equal(rows[first:], before[first:])


def test_embeddings_train_alone(bert_directory, tmp_path):
    model, first = opened(bert_directory)
    (name,) = fit(model, first, tmp_path, trains="embeddings")
    assert "word_embeddings" in name


def test_lora_trains_the_linear_modules_and_the_new_rows(model_directory, tmp_path):
    model, first = opened(model_directory)
    before = input_rows(model).detach().clone()
    names = fit(model, first, tmp_path, trains="lora")
    linears = {
        f"0.model.{name}.weight" for name, module in backbone(model).named_modules() if type(module) is torch.nn.Linear
    }
    assert names - linears == {name for name in names if "embed_tokens" in name or "word_embeddings" in name}
    assert all("pooler" in name for name in linears - names)
    assert torch.equal(input_rows(model)[:first], before[:first])


def test_what_lora_learned_is_the_same_merged(model_directory):
    model, _ = opened(model_directory)
    plain = model.encode(KOREAN)
    with low_rank(backbone(model), 2):
        assert np.abs(model.encode(KOREAN) - plain).max() == 0  # starts at the identity
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(weight, std=0.1)
        unmerged = model.encode(KOREAN)
    assert np.abs(unmerged - plain).max() > 1e-3
    np.testing.assert_allclose(model.encode(KOREAN), unmerged, atol=1e-5)


def test_the_gate_goes_back_from_lora(bert_directory, tmp_path):
    model, first = opened(bert_directory)
    before, vectors = snapshot(model), model.encode(KOREAN)
    fit(model, first, tmp_path, trains="lora")
    Interpolation(model, before).set(0.0)
    np.testing.assert_array_equal(model.encode(KOREAN), vectors)


def test_a_split_embedding_looks_up_the_same(model_directory):
    model, first = opened(model_directory)
    plain = model.encode(KOREAN)
    with new_rows(backbone(model), first):
        np.testing.assert_array_equal(model.encode(KOREAN), plain)


def test_an_embedding_that_scales_does_so_when_split():
    config = Gemma3TextConfig(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, head_dim=8
    )
    model = Gemma3TextModel(config)
    ids = torch.arange(20)[None]
    plain = model.get_input_embeddings()(ids)
    assert not torch.equal(plain[0], model.get_input_embeddings().weight)
    with new_rows(model, 7):
        split = model.get_input_embeddings()
        assert torch.equal(split(ids), plain)
        split(ids).sum().backward()
        assert bool((split.added.weight.grad != 0).all())


@pytest.mark.parametrize("trains", ["new_rows", "lora"])
def test_a_resumed_training_has_what_the_first_one_learned(bert_directory, tmp_path, trains):
    """Killed at step 3 of 4, it goes on from 2."""
    first_model, first = opened(bert_directory)
    killed, resumed = copy.deepcopy(first_model), copy.deepcopy(first_model)
    settings = {"trains": trains, "save_steps": 2, "bf16": False}
    torch.manual_seed(1)  # LoRA starts at random
    fit(first_model, first, tmp_path / "whole", **settings)
    torch.manual_seed(1)
    killed_at(3, lambda: fit(killed, first, tmp_path / "killed", **settings))
    torch.manual_seed(2)
    assert begun_at(lambda: fit(resumed, first, tmp_path / "killed", **settings)) == 2
    for name, value in snapshot(first_model).items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=1e-6)
