import numpy as np
import pytest
import torch
from rich.console import Console
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertModel

from conftest import KOREAN, bert_tokenizer, save
from koembed.config import Training
from koembed.models import backbone
from koembed.training import engine
from koembed.training.attention import FUSED, FUSED_IN_FLOAT32, attend_in_float32, float32_attention
from koembed.training.engine import train
from support import built


@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_the_formula_in_float64(masked):
    """From bf16 inputs, under autocast: only the output is rounded."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, 3, 5, 8, generator=generator).to(torch.bfloat16).requires_grad_() for _ in range(3)
    )
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[1, :, :, 3:] = False
    module = torch.nn.Module()
    module.is_causal = False
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = attend_in_float32(module, query, key, value, mask if masked else None)
    assert found.dtype == torch.bfloat16
    found.float().square().sum().backward()
    exact = [x.detach().double().requires_grad_() for x in (query, key, value)]
    scores = exact[0] @ exact[1].transpose(2, 3) / 8**0.5
    if masked:
        scores = scores.masked_fill(~mask, -torch.inf)
    expected = (scores.softmax(-1) @ exact[2]).transpose(1, 2)
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-6)
    expected.backward(2 * found.detach().double())
    for x, plain in zip((query, key, value), exact, strict=True):
        torch.testing.assert_close(x.grad.double(), plain.grad, rtol=2**-7, atol=2e-2)


def test_a_model_attends_as_before_and_afterwards(model_directory):
    model = SentenceTransformer(str(model_directory), device="cpu")
    plain = model.encode(KOREAN)
    with float32_attention(model):
        assert backbone(model).config._attn_implementation == FUSED_IN_FLOAT32
        np.testing.assert_array_equal(model.encode(KOREAN), plain)  # of float32 nothing is cast
    assert backbone(model).config._attn_implementation == FUSED
    np.testing.assert_array_equal(model.encode(KOREAN), plain)


def test_attention_of_another_kind_is_left_alone(wordpiece, tmp_path):
    config = BertConfig(
        vocab_size=wordpiece.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=4
    )
    directory = save(BertModel(config, add_pooling_layer=False), bert_tokenizer(wordpiece), "mean", tmp_path)
    model = SentenceTransformer(str(directory), device="cpu", model_kwargs={"attn_implementation": "eager"})
    with float32_attention(model):
        assert backbone(model).config._attn_implementation == "eager"


@pytest.mark.parametrize("bf16", [True, False])
def test_a_training_in_bf16_attends_in_float32(bert_directory, tmp_path, monkeypatch, bf16):
    monkeypatch.setattr(engine, "has_bf16", lambda: True)
    model = SentenceTransformer(str(bert_directory), device="cpu")
    seen: set[str] = set()
    network, embeddings = backbone(model), backbone(model).get_input_embeddings()
    handle = embeddings.register_forward_hook(lambda *_: seen.add(network.config._attn_implementation))
    objective, settings = built("simcse", model), Training(bf16=bf16)
    train(model, {"simcse": objective}, settings, tmp_path, "test", seed=0, console=Console(quiet=True))
    handle.remove()
    assert seen == {FUSED_IN_FLOAT32 if bf16 else FUSED}
