"""Folded adapters: the same vectors, from a model that knows nothing of koembed."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from conftest import KOREAN
from koembed.adapters.bottleneck import Bottleneck
from koembed.adapters.model import AdapterSpec, adapted
from koembed.errors import InputError
from koembed.export.fold import fold, folded

LANGUAGE = AdapterSpec("language", 8, "identity", scale=0.5)
STS, RETRIEVAL = (AdapterSpec(name, 8, "identity", task=True) for name in ("sts", "retrieval"))


def trained(directory, *specs: AdapterSpec) -> SentenceTransformer:
    """A model with adapters of random weights."""
    model = adapted(directory)
    torch.manual_seed(0)
    for spec in specs:
        model[0].add_adapter(spec)
    for weight in model[0].sites.parameters():
        nn.init.normal_(weight, std=0.1)
    return model


@pytest.mark.parametrize(("bias", "adapter_bias"), [(True, True), (True, False), (False, False)])
def test_a_folded_layer_equals_the_formula_in_float64(bias, adapter_bias):
    torch.manual_seed(0)
    layer = nn.Linear(6, 4, bias).double()
    adapter = Bottleneck(4, 3, "identity", bias=adapter_bias).double()
    for weight in adapter.parameters():
        nn.init.normal_(weight)
    x = torch.randn(5, 6, dtype=torch.float64)
    y = layer(x)
    expected = y + 0.3 * adapter(y)
    fold(layer, adapter, 0.3)
    torch.testing.assert_close(layer(x), expected)


def test_a_folded_model_gives_the_same_vectors_for_each_task(model_directory):
    model = trained(model_directory, LANGUAGE, STS, RETRIEVAL)
    before = SentenceTransformer(str(model_directory), device="cpu").encode(KOREAN)
    for task in ("sts", "retrieval"):
        vectors = folded(model, model_directory, task).encode(KOREAN)
        np.testing.assert_allclose(vectors, model.encode(KOREAN, task=task), atol=2e-6)
        assert np.abs(vectors - before).max() > 0.01


def test_an_adapter_that_was_left_out_leaves_no_trace(model_directory):
    model = trained(model_directory, LANGUAGE)
    model[0].set_scale("language", 0.0)
    before = SentenceTransformer(str(model_directory), device="cpu").encode(KOREAN)
    np.testing.assert_array_equal(folded(model, model_directory).encode(KOREAN), before)


def test_a_folded_model_opens_where_koembed_is_not_installed(model_directory, tmp_path):
    folded(trained(model_directory, LANGUAGE), model_directory).save(str(tmp_path / "plain"))
    code = (
        "import sys, json; sys.modules['koembed'] = None; from sentence_transformers import SentenceTransformer\n"
        f"model = SentenceTransformer({str(tmp_path / 'plain')!r}, device='cpu')\n"
        f"print(json.dumps(model.encode({KOREAN!r}).tolist()))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    expected = trained(model_directory, LANGUAGE).encode(KOREAN)
    np.testing.assert_allclose(json.loads(printed.splitlines()[-1]), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (AdapterSpec("language", 8, "gelu"), "adapter language cannot be folded: it has the activation gelu; train it"),
        (AdapterSpec("language", 8, "identity", form="parallel"), "it runs beside its sublayer; .*form: sequential"),
        (AdapterSpec("language", 8, "identity", invertible=True), "it changes embeddings"),
    ],
)
def test_what_cannot_be_folded_is_said(bert_directory, spec, message):
    with pytest.raises(InputError, match=message):
        folded(trained(bert_directory, spec), bert_directory)


def test_a_fusion_cannot_be_folded_but_its_tasks_can(bert_directory):
    both = AdapterSpec("both", 8, "identity", task=True, fuses=["sts", "retrieval"])
    model = trained(bert_directory, STS, RETRIEVAL, both)
    with pytest.raises(InputError, match="it fuses tasks"):
        folded(model, bert_directory, "both")
    folded(model, bert_directory, "sts")
