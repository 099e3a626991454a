import copy

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from conftest import KOREAN
from koembed.adapters.bottleneck import Bottleneck, sublayer_outputs
from koembed.adapters.model import AdapterSpec, adapted
from koembed.errors import InputError


def with_adapters(directory, *specs: AdapterSpec) -> SentenceTransformer:
    model = adapted(directory)
    for spec in specs:
        model[0].add_adapter(spec)
    return model


def scramble(model: SentenceTransformer, name: str, seed: int = 0) -> None:
    """Give an adapter weights that do something."""
    torch.manual_seed(seed)
    for site in model[0].sites:
        torch.nn.init.normal_(site.adapters[name].up.weight, std=0.5)


LANGUAGE, STS, RETRIEVAL = (
    AdapterSpec("language", 8),
    AdapterSpec("sts", 8, task=True),
    AdapterSpec("retrieval", 8, "identity", task=True),
)


def test_new_adapters_change_nothing_at_all(model_directory):
    plain = SentenceTransformer(str(model_directory), device="cpu").encode(KOREAN)
    model = with_adapters(model_directory, LANGUAGE, STS, RETRIEVAL)
    assert np.abs(model.encode(KOREAN) - plain).max() == 0
    assert np.abs(model.encode(KOREAN, task="retrieval") - plain).max() == 0


def test_scale_zero_is_the_stage_before_bit_for_bit(model_directory):
    plain = SentenceTransformer(str(model_directory), device="cpu").encode(KOREAN)
    model = with_adapters(model_directory, LANGUAGE)
    scramble(model, "language")
    assert np.abs(model.encode(KOREAN) - plain).max() > 1e-3
    model[0].set_scale("language", 0.0)
    np.testing.assert_array_equal(model.encode(KOREAN), plain)


@pytest.mark.parametrize("changed", range(4))
def test_a_site_changes_only_what_passes_it(model_directory, changed):
    """The first version's hooks closed over a loop variable, so that every layer ran the last layer's weights."""
    model = with_adapters(model_directory, LANGUAGE)
    seen: list[torch.Tensor] = []
    for output in sublayer_outputs(model[0].model, 2):
        output.register_forward_hook(lambda module, inputs, output: seen.append(output.detach().clone()))
    model.encode(KOREAN)
    before, seen[:] = list(seen), []
    torch.nn.init.normal_(model[0].sites[changed].adapters["language"].up.weight)
    model.encode(KOREAN)
    same = [torch.equal(first, second) for first, second in zip(before, seen, strict=True)]
    assert same == [site < changed for site in range(4)]


def test_composition_equals_the_formula_in_float64(bert_directory):
    model = with_adapters(bert_directory, LANGUAGE, STS)
    for name in ("language", "sts"):
        scramble(model, name)
    model[0].set_scale("language", 0.5)
    site, x = model[0].sites[1], torch.randn(5, 32)

    def adapter(name: str, x: torch.Tensor) -> torch.Tensor:
        weights = copy.deepcopy(site.adapters[name]).double()
        hidden = x @ weights.down.weight.T + weights.down.bias
        active = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        return active @ weights.up.weight.T + weights.up.bias

    expected = x.double() + 0.5 * adapter("language", x.double())
    expected = expected + 1.0 * adapter("sts", expected)
    model[0].select("sts")
    torch.testing.assert_close(site(x).double(), expected, atol=1e-5, rtol=1e-5)


def test_tasks_take_turns_and_one_call_leaves_no_trace(model_directory):
    model = with_adapters(model_directory, LANGUAGE, STS, RETRIEVAL)
    model[0].select()
    scramble(model, "retrieval")
    default = model.encode(KOREAN)
    assert np.abs(model.encode(KOREAN, task="retrieval") - default).max() > 1e-3
    np.testing.assert_array_equal(model.encode(KOREAN), default)
    np.testing.assert_array_equal(model.encode(KOREAN, task="sts"), default)


def test_an_unknown_task_is_named(bert_directory):
    model = with_adapters(bert_directory, STS)
    with pytest.raises(InputError, match="task summary: this model has sts"):
        model.encode(KOREAN, task="summary")


def test_a_saved_model_opens_with_sentence_transformers(model_directory, tmp_path):
    model = with_adapters(model_directory, LANGUAGE, STS, RETRIEVAL)
    for name in ("language", "sts", "retrieval"):
        scramble(model, name)
    model[0].set_scale("language", 0.25)
    model[0].select()
    model.save(str(tmp_path), create_model_card=False)
    opened = SentenceTransformer(str(tmp_path), trust_remote_code=True, device="cpu")
    for task in (None, "sts", "retrieval"):
        options = {"task": task} if task else {}
        np.testing.assert_array_equal(opened.encode(KOREAN, **options), model.encode(KOREAN, **options))


def test_only_the_chosen_adapter_trains(model_directory):
    model = with_adapters(model_directory, LANGUAGE, STS)
    model.requires_grad_(False)
    model[0].freeze_except("sts")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(".adapters.sts." in name for name in trained)


def test_parameters_are_as_counted():
    adapter = Bottleneck(32, 8, "gelu")
    assert sum(parameter.numel() for parameter in adapter.parameters()) == 2 * 32 * 8 + 32 + 8


def test_a_model_without_layers_is_refused():
    with pytest.raises(InputError, match="no stack of 3 layers"):
        sublayer_outputs(torch.nn.Linear(2, 2), 3)
