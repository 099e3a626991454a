"""A remembered model gives what the adapted one gives, and reads no text twice."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from conftest import KOREAN
from koembed.adapters.model import AdapterSpec, adapted
from koembed.adapters.remembered import Remembered, remembered
from koembed.errors import InputError
from koembed.metrics import encode

LANGUAGE = AdapterSpec("language", 8, "gelu", scale=0.5)
LAST = AdapterSpec("last", 8, "identity", form="output")
STS, RETRIEVAL = (AdapterSpec(name, 8, "identity", form="output", task=True) for name in ("sts", "retrieval"))


@pytest.fixture
def model(model_directory) -> SentenceTransformer:
    """Adapters of random weights at sublayers and on the last states."""
    found = adapted(model_directory)
    found.prompts |= {"default": "the ", "query": "open ", "document": "water "}
    found.default_prompt_name = "default"
    torch.manual_seed(0)
    for spec in (LANGUAGE, LAST, STS, RETRIEVAL):
        found[0].add_adapter(spec)
    for weight in found[0].sites.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    found[0].select()
    return found


@pytest.mark.parametrize("task", [None, "sts", "retrieval", "query", "document"])
def test_it_gives_the_same_vectors_for_each_task_and_role(model, task):
    expected = encode(model, KOREAN, task=task)
    np.testing.assert_allclose(encode(remembered(model, {}), KOREAN, task=task), expected, atol=1e-6)


def test_a_text_is_read_once_whatever_output_adapters_become(model):
    memory: dict = {}
    first, second = remembered(model, memory), remembered(model, memory)
    encode(first, KOREAN[:4])
    read: list[int] = []
    model[0].register_forward_pre_hook(lambda module, inputs: read.append(len(inputs[0]["input_ids"])))
    model[0].set_scale("last", 0.25)
    encode(second, KOREAN)
    assert sum(read) == 2
    np.testing.assert_allclose(encode(second, KOREAN), encode(model, KOREAN), atol=1e-6)


def test_a_text_is_read_anew_for_another_prompt_length_or_adapter_below(model):
    module = remembered(model, {})[0]
    assert isinstance(module, Remembered)
    module.remember(KOREAN)
    for change in ("prompt", "length", "scale", "nothing"):
        known = len(module.memory)
        if change == "length":
            module.max_seq_length = 6
        if change == "scale":
            model[0].set_scale("language", 0.75)
        module.remember(KOREAN, "the " if change == "prompt" else None)
        assert len(module.memory) - known == (0 if change == "nothing" else len(KOREAN))


def test_what_is_not_pooled_linearly_is_refused(bert_directory):
    model = adapted(bert_directory)
    model[1] = Pooling(32, "max")
    with pytest.raises(InputError, match="form output: the model does not pool its last states linearly"):
        remembered(model, {})
