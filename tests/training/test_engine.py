import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sentence_transformers import SentenceTransformer

from conftest import KOREAN
from koembed.config import Training
from koembed.models import input_rows
from koembed.training.engine import LengthGroupedBatchSampler, forced_dropout, train, train_only
from koembed.training.gate import snapshot
from koembed.training.objectives import OBJECTIVES
from support import context


def fit(model: SentenceTransformer, folder, **settings) -> None:
    objective = OBJECTIVES["simcse"](context(model))
    train(model, {"simcse": objective}, Training(**settings), folder, "test", seed=0, console=Console(quiet=True))


def changed(before: dict[str, torch.Tensor], model: SentenceTransformer) -> set[str]:
    return {name for name, value in snapshot(model).items() if not torch.equal(value, before[name])}


def test_frozen_rows_stay_bit_for_bit(bert_directory, tmp_path):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    before = snapshot(model)
    first_new_row = model.tokenizer.convert_tokens_to_ids("##\u1161")  # jamo inside words come after it
    handle = train_only(model, "new_rows", first_new_row)
    fit(model, tmp_path, learning_rate=0.01, epochs=3, batch_size=4)
    handle.remove()
    (name,) = changed(before, model)
    assert "word_embeddings" in name
    rows = input_rows(model)
    assert torch.equal(rows[:first_new_row], before[name][:first_new_row])
    assert not torch.equal(rows[first_new_row:], before[name][first_new_row:])


def test_embeddings_train_alone(bert_directory, tmp_path):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    before = snapshot(model)
    train_only(model, "embeddings")
    fit(model, tmp_path, learning_rate=0.01, batch_size=4)
    assert all("word_embeddings" in name for name in changed(before, model))


def test_dropout_is_forced_where_there_is_none(qwen3_directory):
    """SimCSE on Qwen3 learned nothing in the first version: both views were equal."""
    model = SentenceTransformer(str(qwen3_directory), device="cpu").train()
    features = model.preprocess(KOREAN)

    def view() -> torch.Tensor:
        return model(dict(features))["sentence_embedding"].detach()

    assert torch.equal(view(), view())
    with forced_dropout(model, 0.1):
        assert not torch.equal(view(), view())
        model.eval()
        assert torch.equal(view(), view())
        model.train()
    assert torch.equal(view(), view())


def test_own_dropout_is_left_alone(bert_directory):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    with forced_dropout(model, 0.1):
        assert not any(module._forward_hooks for module in model.modules())


@given(st.lists(st.text(max_size=30), min_size=1, max_size=300), st.integers(1, 17), st.integers(0, 3))
def test_batches_hold_every_example_once(texts, batch_size, epoch):
    sampler = LengthGroupedBatchSampler(Dataset.from_dict({"text": texts}), batch_size, drop_last=False, seed=1)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(len(texts)))
    assert len(batches) == len(sampler)
    assert max(map(len, batches)) <= batch_size


def test_batches_hold_texts_of_about_one_length():
    lengths = np.random.default_rng(0).integers(1, 200, 2000)
    dataset = Dataset.from_dict({"text": ["가" * int(length) for length in lengths]})
    batches = list(LengthGroupedBatchSampler(dataset, 20, drop_last=False, seed=0))
    padded = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    assert padded < 1.1 * lengths.sum()
    firsts = [lengths[batch[0]] for batch in batches]
    assert firsts != sorted(firsts)


@pytest.mark.parametrize("again", [False, True])
def test_a_killed_training_continues_from_its_checkpoint(bert_directory, tmp_path, again):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    train_only(model, "all")
    fit(model, tmp_path, epochs=2, batch_size=2, save_steps=2)
    assert any(path.name.startswith("checkpoint-") for path in tmp_path.iterdir())
    if again:
        before = snapshot(model)
        resumed = SentenceTransformer(str(bert_directory), device="cpu")
        fit(resumed, tmp_path, epochs=2, batch_size=2, save_steps=2)
        assert changed(before, resumed) == set()  # nothing was left to do: the last step's weights came back
