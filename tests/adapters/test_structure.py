import pytest
import torch
from peft import LoraConfig, LoraModel
from transformers import AutoModel, BertConfig, LlamaConfig, Qwen3Config, XLMRobertaConfig

from koembed.adapters.structure import sublayers
from koembed.errors import InputError

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
DECODER = {"num_key_value_heads": 1, "head_dim": 4}
ENCODER_NAMES = ["attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense"]
DECODER_NAMES = ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"]


@pytest.mark.parametrize(
    ("config", "prefix", "names"),
    [
        (BertConfig(**SIZES), "encoder.layer", ENCODER_NAMES),
        (XLMRobertaConfig(**SIZES), "encoder.layer", ENCODER_NAMES),
        (LlamaConfig(**SIZES, **DECODER), "layers", DECODER_NAMES),
        (Qwen3Config(**SIZES, **DECODER), "layers", DECODER_NAMES),
    ],
)
def test_sublayers_are_found(config, prefix, names):
    model = AutoModel.from_config(config)
    modules = dict(model.named_modules())
    expected = [[modules[f"{prefix}.{layer}.{name}"] for name in names] for layer in range(2)]
    found = sublayers(model, 2)
    assert [module for one in found for module in (one.entry, one.exit)] == expected[0] + expected[1]


def test_a_linear_that_peft_wrapped_counts_as_one():
    model = AutoModel.from_config(Qwen3Config(**SIZES, **DECODER))
    LoraModel(model, LoraConfig(r=2, target_modules="all-linear"), "lora")
    assert [one.exit for one in sublayers(model, 2)][:2] == [
        model.layers[0].self_attn.o_proj,
        model.layers[0].mlp.down_proj,
    ]


def test_a_model_without_layers_is_refused():
    with pytest.raises(InputError, match="no stack of 3 layers"):
        sublayers(torch.nn.Linear(2, 2), 3)
