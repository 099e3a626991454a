import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import BertConfig, BertModel

from conftest import KOREAN, bert_tokenizer, save
from koembed.training.dropout import cheap_masks, drop, dropout, forced_dropout, fused_attention


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 7), max_size=4), st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
def test_an_element_is_dropped_or_scaled_up(shape, dtype):
    x = torch.full(shape, 3.0, dtype=dtype, requires_grad=True)
    dropped = drop(x, 0.25)
    dropped.backward(torch.ones_like(dropped))
    assert (dropped.shape, dropped.dtype) == (x.shape, x.dtype)
    assert {round(value, 4) for value in dropped.flatten().tolist()} <= {0.0, 4.0}
    torch.testing.assert_close(x.grad * 3, dropped.detach())  # the same mask goes back


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5, 0.9])
def test_elements_are_dropped_with_the_probability_each_by_itself(probability):
    n = 1_000_000
    torch.manual_seed(0)
    kept = (drop(torch.ones(n), probability) != 0).double() - (1 - probability)
    variance = probability * (1 - probability)
    assert abs(kept.mean()) < 4 * math.sqrt(variance / n)
    for lag in range(1, 9):  # four elements share one random word
        assert abs((kept[lag:] * kept[:-lag]).mean()) < 4 * variance / math.sqrt(n)


def test_a_seed_fixes_the_mask():
    torch.manual_seed(1)
    first, other = drop(torch.ones(99), 0.5), drop(torch.ones(99), 0.5)
    torch.manual_seed(1)
    assert torch.equal(drop(torch.ones(99), 0.5), first)
    assert not torch.equal(first, other)


def test_a_models_own_modules_drop_the_cheap_way_while_it_trains(bert_directory, monkeypatch):
    model = SentenceTransformer(str(bert_directory), device="cpu").train()
    features = model.preprocess(KOREAN)
    probabilities = []
    monkeypatch.setattr("koembed.training.dropout.drop", lambda x, p: probabilities.append(p) or x)

    def view() -> torch.Tensor:
        return model(dict(features))["sentence_embedding"].detach()

    with cheap_masks(model):
        view()
        assert probabilities == [0.1] * 5  # of two layers' sublayers and the embeddings
        model.eval()
        view()
        assert len(probabilities) == 5
        model.train()
    view()
    assert len(probabilities) == 5
    assert not any("forward" in vars(module) for module in model.modules() if isinstance(module, nn.Dropout))


def test_a_training_model_drops_outputs_and_no_attention(bert_directory):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    attention = [module for name, module in model.named_modules() if name.endswith("attention.self.dropout")]
    outputs = [module for name, module in model.named_modules() if name.endswith("output.dropout")]
    with dropout(model, 0.0):
        assert {module.p for module in attention} == {0.0}
        assert {module.p for module in outputs} == {0.1}
    assert {module.p for module in attention} == {0.1}


def test_dropout_is_forced_where_there_is_none(qwen3_directory):
    """SimCSE on Qwen3 learned nothing in the first version: both views were equal."""
    model = SentenceTransformer(str(qwen3_directory), device="cpu").train()
    features = model.preprocess(KOREAN)

    def view() -> torch.Tensor:
        return model(dict(features))["sentence_embedding"].detach()

    whole = view()
    assert torch.equal(view(), whole)
    with forced_dropout(model, 0.1):
        assert not torch.equal(view(), view())
        model.eval()
        assert torch.equal(view(), whole)
        model.train()
    assert torch.equal(view(), whole)


def test_forced_views_are_as_alike_as_their_masks(qwen3_directory):
    """Whatever the network: of two masks that keep a share of 0.9 each, E[cos] is about 0.9."""
    model = SentenceTransformer(str(qwen3_directory), device="cpu").train()
    features = model.preprocess(KOREAN)
    torch.manual_seed(0)
    with forced_dropout(model, 0.1):
        views = [
            (model(dict(features))["sentence_embedding"], model(dict(features))["sentence_embedding"])
            for _ in range(64)
        ]
    cosines = torch.stack([(first * second).sum(1) for first, second in views])  # rows of length 1
    assert abs(cosines.mean().item() - 0.9) < 0.02


def test_own_dropout_is_left_alone(bert_directory):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    model.train()
    features = model.preprocess(KOREAN)

    def view() -> torch.Tensor:
        torch.manual_seed(0)
        return model(dict(features))["sentence_embedding"].detach()

    own = view()
    with forced_dropout(model, 0.9):
        assert torch.equal(view(), own)


def test_attention_drops_nothing_where_it_is_fused(bert_directory):
    model = SentenceTransformer(str(bert_directory), device="cpu").train()
    dropouts = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)}
    for name, module in dropouts.items():
        module.p = 0.5 if name.endswith("self.dropout") else 0.0
    features = model.preprocess(KOREAN[:4])

    def views_agree() -> bool:
        first, second = (model(dict(features))["sentence_embedding"] for _ in range(2))
        return torch.equal(first, second)

    assert not views_agree()
    with fused_attention(model):
        assert views_agree()
    assert not views_agree()


def test_other_dropout_stays_where_attention_is_fused(bert_directory):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    with fused_attention(model):
        off = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout) and not module.p}
    assert off and all(name.endswith("attention.self.dropout") for name in off)


def test_views_differ_where_attention_alone_drops(wordpiece, tmp_path):
    """Its dropout is put out, so one is forced as on a model that has none."""
    config = BertConfig(
        vocab_size=wordpiece.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_dropout_prob=0.0,
    )
    directory = save(BertModel(config, add_pooling_layer=False), bert_tokenizer(wordpiece), "mean", tmp_path)
    model = SentenceTransformer(str(directory), device="cpu").train()
    features = model.preprocess(KOREAN)
    with dropout(model, 0.1):
        first, second = (model(dict(features))["sentence_embedding"] for _ in range(2))
    assert not torch.equal(first, second)
