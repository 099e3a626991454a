import io
import os
import re
import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sentence_transformers import SentenceTransformer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from conftest import KOREAN
from koembed import models
from koembed.config import Training, Weights
from koembed.errors import InputError
from koembed.models import backbone
from koembed.processes import processes
from koembed.training import engine
from koembed.training.engine import (
    LengthGroupedBatchSampler,
    last_checkpoint,
    longest,
    require_whole_batches,
    train,
)
from koembed.training.gate import snapshot
from koembed.training.objectives import build
from koembed.training.trainable import train_only
from support import CORPUS, LONG, begun_at, built, context, killed_at


def fit(model: SentenceTransformer, folder, **settings) -> None:
    objective = built("simcse", model)
    train(model, {"simcse": objective}, Training(**settings), folder, "test", seed=0, console=Console(quiet=True))


def changed(before: dict[str, torch.Tensor], model: SentenceTransformer) -> set[str]:
    return {name for name, value in snapshot(model).items() if not torch.equal(value, before[name])}


def test_what_fills_no_batch_is_refused_where_short_ones_are_dropped(bert_directory, monkeypatch):
    """Several processes drop the last, short batch: an objective of six examples would vanish without a word."""
    objectives = {"simcse": built("simcse", SentenceTransformer(str(bert_directory), device="cpu"))}
    with pytest.raises(InputError, match="stage 1: simcse has 6 examples, which fill no batch of 8; lower batch_size"):
        require_whole_batches(objectives, 8, "stage 1")
    monkeypatch.setattr(engine, "processes", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(InputError, match=r"stage 1: fewer whole batches \(1\) than processes \(2\); lower batch_size"):
        require_whole_batches(objectives, 4, "stage 1")
    require_whole_batches(objectives, 3, "stage 1")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_a_disk_that_fills_up_is_said_in_one_line(bert_directory, tmp_path, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(engine, "save_file", fail)
    with pytest.raises(InputError, match=rf"cannot write {tmp_path}: (No space|PytorchStream).*; free space"):
        fit(SentenceTransformer(str(bert_directory), device="cpu"), tmp_path)


@pytest.mark.parametrize("trains", ["all", "new_rows"])
def test_embeddings_have_their_own_learning_rate(model_directory, tmp_path, trains):
    """Both groups follow the same schedule, and neither decays."""
    model = SentenceTransformer(str(model_directory), device="cpu")
    settings = Weights(trains=trains, learning_rate=1e-3, embedding_learning_rate=4e-3, warmup=0)
    with train_only(model, settings, first_new_row=5):
        embeddings = set(backbone(model).get_input_embeddings().parameters())
        seen = list_groups(model, settings, tmp_path)
    for group in seen:
        assert group["weight_decay"] == 0
        assert group["initial_lr"] == (4e-3 if embeddings & set(group["params"]) else 1e-3)
    assert {id(weight) for group in seen for weight in group["params"]} >= {
        id(weight) for weight in embeddings if weight.requires_grad
    }


def list_groups(model: SentenceTransformer, settings: Weights, folder) -> list[dict]:
    """The optimizer's parameter groups of a training, those without parameters left out."""
    groups: list[dict] = []
    handle = register_optimizer_step_pre_hook(
        lambda optimizer, *_: groups.__setitem__(slice(None), optimizer.param_groups)
    )
    objective = built("simcse", model)
    train(model, {"simcse": objective}, settings, folder, "test", seed=0, console=Console(quiet=True))
    handle.remove()
    return [group for group in groups if group["params"]]


@pytest.mark.parametrize("bf16", [True, False])
def test_a_trained_model_computes_in_float32(bert_directory, tmp_path, bf16):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    before, vectors = snapshot(model), model.encode(KOREAN)
    for part in "ab":
        fit(model, tmp_path / part, bf16=bf16)
    model.load_state_dict(before)
    np.testing.assert_array_equal(model.encode(KOREAN), vectors)


@pytest.mark.parametrize(("of_bf16", "chosen"), [(0.5, True), (2.0, False)])
def test_bf16_is_taken_where_it_is_faster(monkeypatch, of_bf16, chosen):
    seconds = {torch.float32: 1.0, torch.bfloat16: of_bf16}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # a GPU is not timed
    monkeypatch.setattr(models, "_seconds_of_products", seconds.__getitem__)
    assert models.has_bf16.__wrapped__() is chosen


def test_every_training_of_a_model_is_autocast(bert_directory, tmp_path, monkeypatch):
    """The second one was not: it took 2.7 times as long, and half as much memory again."""
    monkeypatch.setattr(engine, "has_bf16", lambda: True)
    model = SentenceTransformer(str(bert_directory), device="cpu")
    linear = next(module for module in model.modules() if isinstance(module, torch.nn.Linear))
    kinds: list[torch.dtype] = []
    handle = linear.register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype))
    for part in "ab":
        kinds.clear()
        fit(model, tmp_path / part)
        assert set(kinds) == {torch.bfloat16}
    handle.remove()


def test_queries_and_passages_are_trained_with_their_prompts(bert_directory, tmp_path):
    model = SentenceTransformer(str(bert_directory), device="cpu", prompts={"query": "비가 ", "document": "문을 "})
    model.prompts["default"], model.default_prompt_name = "물을 ", "default"
    objectives = {name: built(name, model) for name in ("passages", "cosine")}
    read: list[str] = []
    handle = (
        backbone(model)
        .get_input_embeddings()
        .register_forward_hook(
            lambda module, inputs, output: read.extend(
                model.tokenizer.batch_decode(inputs[0], skip_special_tokens=True)
            )
        )
    )
    train(model, objectives, Training(epochs=1, max_length=128), tmp_path, "test", seed=0, console=Console(quiet=True))
    handle.remove()
    columns = [objectives["passages"].dataset["query"], objectives["passages"].dataset["passage"]]
    columns += [objectives["cosine"].dataset["sentence1"], objectives["cosine"].dataset["sentence2"]]
    prompts = ("비가 ", "문을 ", "물을 ", "물을 ")
    expected = [prompt + text for prompt, column in zip(prompts, columns, strict=True) for text in column]
    ids = model.tokenizer(expected)["input_ids"]
    assert sorted(read) == sorted(model.tokenizer.batch_decode(ids, skip_special_tokens=True))


def grouped(lengths, batch_size: int) -> LengthGroupedBatchSampler:
    dataset = Dataset.from_dict({"text": [""] * len(lengths)})
    return LengthGroupedBatchSampler(dataset, torch.tensor(lengths), batch_size, drop_last=False, seed=1)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=300), st.integers(1, 17), st.integers(0, 3))
def test_batches_hold_every_example_once(lengths, batch_size, epoch):
    sampler = grouped(lengths, batch_size)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    assert max(map(len, batches)) <= batch_size


def test_batches_hold_examples_of_about_one_length():
    lengths = np.random.default_rng(0).integers(1, 200, 2000)
    batches = list(grouped(lengths, 20))
    padded = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    assert padded < 1.1 * lengths.sum()
    firsts = [lengths[batch[0]] for batch in batches]
    assert firsts != sorted(firsts)


def test_lengths_are_the_tokens_that_the_model_reads(bert_directory):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    model.max_seq_length = 12
    columns = {
        "first": ["rain", "the doctor", ""],
        "second": ["the open window", KOREAN[0], ""],
        "label": [1.0, 0.5, 0],
    }
    assert longest(model, Dataset.from_dict(columns)).tolist() == [5, 12, 2]  # of two each is [CLS] and [SEP]


def test_each_batch_of_a_training_holds_texts_of_about_as_many_tokens(bert_directory, tmp_path):
    """Seven letters each, three tokens or fourteen: Korean is jamo to this tokenizer."""
    model, widths = SentenceTransformer(str(bert_directory), device="cpu"), []
    texts = ["weather", "비가 오는 날"] * 40
    objective = built("simcse", model)
    objective.dataset = Dataset.from_dict({"text": texts, "same": texts})
    embeddings = backbone(model).get_input_embeddings()
    handle = embeddings.register_forward_hook(lambda module, inputs, output: widths.append(inputs[0].shape[1]))
    train(model, {"simcse": objective}, Training(batch_size=8), tmp_path, "test", seed=0, console=Console(quiet=True))
    handle.remove()
    assert Counter(widths) == {3: 5, 14: 5}


def train_without_dropout(base: Path, folder: Path, **settings) -> SentenceTransformer:
    """On an objective whose examples do not depend on each other; eight batches of two."""
    model = SentenceTransformer(str(base), device="cpu")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    corpus = replace(CORPUS, texts=[f"{text} {word}" for text in LONG for word in ("지금", "다시", "다")][:16])
    objectives = {"healing": build("healing", context(model), corpus, examples=16)}
    settings = Training(batch_size=2, bf16=False, learning_rate=1e-3, **settings)
    train(model, objectives, settings, folder, "test", seed=0, console=Console(quiet=True))
    return model


def one_of_two(rank: int, base: Path, folder: Path, port: int) -> None:
    """A process as torchrun starts it; what it read and what came out."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    assert processes().num_processes == 2  # before there is a trainer, too
    read: list[torch.Tensor] = []

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, torch.nn.Embedding) and module.training:
            read.append(inputs[0])

    torch.nn.modules.module.register_module_forward_pre_hook(note)
    model = train_without_dropout(base, folder / "checkpoints")
    torch.save({"read": read[0], "weights": model.state_dict()}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_train_as_one_that_sums_two_batches(bert_directory, tmp_path):
    """DDP takes the mean of both processes' gradients; passed by it, each would train alone on half of the data."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(one_of_two, (bert_directory, tmp_path, port), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert not torch.equal(first["read"], second["read"])
    alone = train_without_dropout(bert_directory, tmp_path / "alone", accumulation=2)
    before = SentenceTransformer(str(bert_directory), device="cpu").state_dict()
    assert any((value - before[name]).abs().max() > 1e-3 for name, value in alone.state_dict().items())
    for name, value in alone.state_dict().items():
        assert torch.equal(first["weights"][name], second["weights"][name])
        torch.testing.assert_close(first["weights"][name], value, rtol=0, atol=1e-5)


def test_a_killed_training_continues_from_its_checkpoint(bert_directory, tmp_path):
    """Killed at step 5 of 6, it goes on from 4, in its second pass, and ends as one that was left alone."""
    settings = {"batch_size": 2, "epochs": 2, "save_steps": 2, "bf16": False}
    whole, killed, resumed = (SentenceTransformer(str(bert_directory), device="cpu") for _ in range(3))
    fit(whole, tmp_path / "whole", **settings)
    killed_at(5, lambda: fit(killed, tmp_path / "killed", **settings))
    assert begun_at(lambda: fit(resumed, tmp_path / "killed", **settings)) == 4
    for name, value in snapshot(whole).items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=1e-6)


def test_a_checkpoint_whose_writing_was_cut_short_is_passed_over(tmp_path):
    for number, name in [(9, "trainer_state.json"), (10, "trainer_state.json"), (11, "optimizer.pt")]:
        (tmp_path / f"checkpoint-{number}").mkdir()
        (tmp_path / f"checkpoint-{number}" / name).touch()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert last_checkpoint(tmp_path / "none") is None


def test_off_a_terminal_a_training_prints_one_line(bert_directory, tmp_path):
    model, printed = SentenceTransformer(str(bert_directory), device="cpu"), io.StringIO()
    objective = built("simcse", model)
    settings = Training(batch_size=2, accumulation=3)
    train(model, {"simcse": objective}, settings, tmp_path, "stage 1", seed=0, console=Console(file=printed))
    assert re.fullmatch(r"stage 1: 1 steps in \d+ s, \d+ examples a second\n", printed.getvalue())
