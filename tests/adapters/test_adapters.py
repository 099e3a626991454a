import copy
import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import T5Config, T5EncoderModel

from conftest import KOREAN, bert_tokenizer, save
from koembed.adapters.bottleneck import Bottleneck
from koembed.adapters.model import AdapterSpec, adapted
from koembed.adapters.structure import sublayers
from koembed.errors import InputError


def with_adapters(directory, *specs: AdapterSpec) -> SentenceTransformer:
    model = adapted(directory)
    for spec in specs:
        model[0].add_adapter(spec)
    return model


def scramble(model: SentenceTransformer, name: str, seed: int = 0) -> None:
    """Give an adapter weights that do something."""
    torch.manual_seed(seed)
    for parameter, weight in model[0].sites.named_parameters():
        if f".{name}." in parameter and parameter.endswith(("up.weight", "query.weight")):
            torch.nn.init.normal_(weight, std=0.5)


LANGUAGE, STS, RETRIEVAL = (
    AdapterSpec("language", 8, "gelu"),
    AdapterSpec("sts", 8, "gelu", task=True),
    AdapterSpec("retrieval", 8, "identity", task=True),
)
FORMS = {
    "sequential": LANGUAGE,
    "parallel": AdapterSpec("language", 8, "gelu", form="parallel"),
    "invertible": AdapterSpec("language", 8, "gelu", invertible=True),
    "both": AdapterSpec("language", 8, "identity", form="parallel", invertible=True),
}


@pytest.fixture(params=FORMS)
def language(request) -> AdapterSpec:
    return FORMS[request.param]


def test_new_adapters_change_nothing_at_all(model_directory, language):
    plain = SentenceTransformer(str(model_directory), device="cpu").encode(KOREAN)
    model = with_adapters(model_directory, language, STS, RETRIEVAL)
    assert np.abs(model.encode(KOREAN) - plain).max() == 0
    assert np.abs(model.encode(KOREAN, task="retrieval") - plain).max() == 0


@pytest.mark.parametrize("tasks", [(), (STS,), (STS, RETRIEVAL)], ids=["no task", "sts", "retrieval too"])
def test_queries_and_documents_run_the_retrieval_adapter_where_there_is_one(bert_directory, tasks):
    model = with_adapters(bert_directory, LANGUAGE, *tasks)
    for name in model[0].specs:
        scramble(model, name)
    expected = model.encode(KOREAN, **({"task": "retrieval"} if RETRIEVAL in tasks else {}))
    model[0].select()
    for encode in (model.encode_query, model.encode_document):
        np.testing.assert_array_equal(encode(KOREAN), expected)
    np.testing.assert_array_equal(model.encode(KOREAN, task="sts") if tasks else expected, model.encode(KOREAN))


def test_scale_zero_is_the_stage_before_bit_for_bit(model_directory, language):
    plain = SentenceTransformer(str(model_directory), device="cpu").encode(KOREAN)
    model = with_adapters(model_directory, language)
    scramble(model, "language")
    assert np.abs(model.encode(KOREAN) - plain).max() > 1e-3
    model[0].set_scale("language", 0.0)
    np.testing.assert_array_equal(model.encode(KOREAN), plain)


@pytest.mark.parametrize("form", ["sequential", "parallel"])
@pytest.mark.parametrize("changed", range(4))
def test_a_site_changes_only_what_passes_it(model_directory, form, changed):
    """The first version's hooks closed over a loop variable, so that every layer ran the last layer's weights."""
    model = with_adapters(model_directory, FORMS[form])
    seen: list[torch.Tensor] = []
    for sublayer in sublayers(model[0].model, 2):
        sublayer.exit.register_forward_hook(lambda module, inputs, output: seen.append(output.detach().clone()))
    model.encode(KOREAN)
    before, seen[:] = list(seen), []
    torch.nn.init.normal_(model[0].sites[changed].adapters["language"].up.weight)
    model.encode(KOREAN)
    same = [torch.equal(first, second) for first, second in zip(before, seen, strict=True)]
    assert same == [site < changed for site in range(4)]


def in_float64(adapter: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A bottleneck with GELU, written out."""
    weights = copy.deepcopy(adapter).double()
    hidden = x.double() @ weights.down.weight.T + weights.down.bias
    active = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return active @ weights.up.weight.T + weights.up.bias


def test_composition_equals_the_formula_in_float64(bert_directory):
    model = with_adapters(bert_directory, LANGUAGE, AdapterSpec("sts", 8, "gelu", form="parallel", task=True))
    for name in ("language", "sts"):
        scramble(model, name)
    model[0].set_scale("language", 0.5)
    site, x, entered = model[0].sites[1], torch.randn(5, 32), torch.randn(5, 32)
    expected = x + 0.5 * in_float64(site.adapters["language"], x) + in_float64(site.adapters["sts"], entered)
    torch.testing.assert_close(site(x, entered).double(), expected, atol=1e-5, rtol=1e-5)


def test_a_parallel_adapter_reads_what_the_sublayer_read(model_directory):
    """BERT: the residual stream itself, [CLS] after the embeddings; Qwen3: normalised, so of another length."""
    model = with_adapters(model_directory, FORMS["parallel"])
    read: list[torch.Tensor] = []
    adapter = model[0].sites[0].adapters["language"]
    adapter.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    hidden = model[0].model(**model[0].preprocess(KOREAN[:1]), output_hidden_states=True).hidden_states[0]
    if model[0].config.model_type == "qwen3":
        hidden = model[0].model.layers[0].input_layernorm(hidden)
    assert torch.equal(read[0], hidden)


def test_the_invertible_adapter_can_be_inverted(bert_directory):
    model = with_adapters(bert_directory, FORMS["invertible"])
    scramble(model, "language")
    model[0].set_scale("language", 0.75)
    site, x = model[0].sites[-1], torch.randn(5, 32)
    left, right = site(x).double().chunk(2, dim=-1)
    assert not torch.equal(site(x), x)
    right = right - 0.75 * in_float64(site.adapters["language"].right, left)
    left = left - 0.75 * in_float64(site.adapters["language"].left, right)
    torch.testing.assert_close(torch.cat([left, right], -1), x.double(), atol=1e-5, rtol=1e-5)


RETRIEVAL_BESIDE = AdapterSpec("retrieval", 8, "gelu", form="parallel", task=True)
FUSION = AdapterSpec("fusion", 8, task=True, fuses=["sts", "retrieval"])


def test_fusion_equals_the_formula_in_float64(bert_directory):
    model = with_adapters(bert_directory, STS, RETRIEVAL_BESIDE, FUSION)
    for name in ("sts", "retrieval", "fusion"):
        scramble(model, name)
    model[0].set_scale("sts", 0.5)
    model[0].set_scale("fusion", 0.25)
    model[0].select("fusion")
    site, x, entered = model[0].sites[2], torch.randn(5, 32), torch.randn(5, 32)
    tasks = [0.5 * in_float64(site.adapters["sts"], x), in_float64(site.adapters["retrieval"], entered)]
    fusion = copy.deepcopy(site.adapters["fusion"]).double()
    query = x.double() @ fusion.query.weight.T
    logits = torch.stack([(query * (task @ fusion.key.weight.T)).sum(-1) / 8**0.5 for task in tasks])
    weights = logits.exp() / logits.exp().sum(0)
    expected = x + 0.25 * sum(weight[:, None] * task for weight, task in zip(weights, tasks, strict=True))
    torch.testing.assert_close(site(x, entered).double(), expected, atol=1e-5, rtol=1e-5)


def test_a_new_fusion_is_the_mean_of_its_tasks_and_changes_no_other(model_directory):
    model = with_adapters(model_directory, LANGUAGE, STS, RETRIEVAL)
    fresh = model.encode(KOREAN)
    model[0].add_adapter(FUSION)
    np.testing.assert_array_equal(model.encode(KOREAN, task="fusion"), fresh)  # of untrained tasks: the identity
    scramble(model, "sts")
    before = {task: model.encode(KOREAN, task=task) for task in ("sts", "retrieval")}
    model[0].add_adapter(AdapterSpec("alone", 8, task=True, fuses=["sts"]))
    np.testing.assert_array_equal(model.encode(KOREAN, task="alone"), before["sts"])
    model[0].set_scale("sts", 0.5)
    half = model.encode(KOREAN, task="sts")
    model[0].set_scale("sts", 1.0)
    np.testing.assert_allclose(model.encode(KOREAN, task="fusion"), half, atol=1e-6)  # the other task adds nothing
    model[0].set_scale("fusion", 0.0)
    np.testing.assert_array_equal(model.encode(KOREAN, task="fusion"), fresh)
    for task, vectors in before.items():
        np.testing.assert_array_equal(model.encode(KOREAN, task=task), vectors)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (AdapterSpec("fusion", 8, task=True, fuses=["summary"]), "fuses summary: this model has sts"),
        (AdapterSpec("fusion", 8, task=True, fuses=["sts"], invertible=True), "set invertible: false"),
    ],
)
def test_what_cannot_be_fused_is_refused(bert_directory, spec, message):
    model = with_adapters(bert_directory, STS)
    with pytest.raises(InputError, match=message):
        model[0].add_adapter(spec)
    assert list(model[0].specs) == ["sts"]


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


def everything(directory) -> SentenceTransformer:
    """A model with every form of adapter, all of them doing something."""
    model = with_adapters(directory, FORMS["invertible"], STS, RETRIEVAL_BESIDE)
    model[0].add_adapter(FUSION)
    for seed, name in enumerate(("language", "sts", "retrieval", "fusion")):
        scramble(model, name, seed)
    model[0].set_scale("language", 0.25)
    model[0].select()
    return model


def assert_same(first: SentenceTransformer, second: SentenceTransformer) -> None:
    for options in ({}, {"task": "sts"}, {"task": "retrieval"}, {"task": "fusion"}):
        np.testing.assert_array_equal(first.encode(KOREAN, **options), second.encode(KOREAN, **options))


def test_a_saved_model_opens_with_sentence_transformers(model_directory, tmp_path):
    model = everything(model_directory)
    model.save(str(tmp_path), create_model_card=False)
    assert_same(SentenceTransformer(str(tmp_path), trust_remote_code=True, device="cpu"), model)


def test_saved_adapters_go_into_a_plain_model(model_directory, tmp_path):
    model = everything(model_directory)
    model[0].save_adapters(tmp_path / "alone")
    assert {file.name for file in (tmp_path / "alone").iterdir()} == {"adapters.safetensors", "adapter_config.json"}
    plain = adapted(model_directory)
    plain[0].load_adapters(tmp_path / "alone")
    assert_same(plain, model)


def test_adapters_of_another_shape_are_refused(bert_directory, tmp_path):
    model = adapted(bert_directory)
    with pytest.raises(InputError, match="name a folder that was saved with them"):
        model[0].load_adapters(tmp_path)
    model[0].save_adapters(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    with pytest.raises(InputError, match="made for hidden_size 64, this model has 32"):
        model[0].load_adapters(tmp_path)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_decoder_pads_on_either_side_and_keeps_its_prompts(qwen3_directory, side):
    model = everything(qwen3_directory)
    model.tokenizer.padding_side = side
    alone = model.encode(KOREAN[:1])
    np.testing.assert_allclose(model.encode([KOREAN[0], " ".join(KOREAN)])[:1], alone, atol=1e-5)
    prompted = model.encode([f"query: {KOREAN[0]}"])
    np.testing.assert_allclose(model.encode(KOREAN[:1], prompt="query: "), prompted, atol=1e-6)


@pytest.mark.parametrize("name", ["language", "sts", "fusion"])
def test_only_the_chosen_adapter_trains(model_directory, name):
    model = everything(model_directory)
    model.requires_grad_(False)
    model[0].freeze_except(name)
    trained = {parameter for parameter, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {parameter for parameter, _ in model.named_parameters() if f".adapters.{name}." in parameter}
    model.train()
    model[0].select(name if name != "language" else None)
    model(model.preprocess(KOREAN))["sentence_embedding"][:, 0].sum().backward()
    gradients = {parameter for parameter, weight in model.named_parameters() if weight.grad is not None}
    assert gradients == trained


def test_parameters_are_as_counted():
    adapter = Bottleneck(32, 8, "gelu")
    assert sum(parameter.numel() for parameter in adapter.parameters()) == 2 * 32 * 8 + 32 + 8


def test_the_invertible_adapter_of_t5_reads_what_its_encoder_reads(wordpiece, tmp_path):
    """T5 names a module that holds the rows, and looks them up in another."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=wordpiece.get_vocab_size(), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0
    )
    directory = save(T5EncoderModel(config), bert_tokenizer(wordpiece), "mean", tmp_path)
    model = with_adapters(directory, FORMS["invertible"])
    before = model.encode(KOREAN)
    with torch.no_grad():
        for parameter in model[0]._embedding_site().adapters["language"].parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    assert np.abs(model.encode(KOREAN) - before).max() > 1e-3
