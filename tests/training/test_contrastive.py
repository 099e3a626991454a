"""The one InfoNCE: its mask, its temperature, and two processes against one, each against plain float64 arithmetic."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from sentence_transformers import SentenceTransformer
from torch import Tensor, distributed, multiprocessing

from koembed.config import Training
from koembed.training.engine import train
from koembed.training.objectives.contrastive import COLDEST, HOTTEST, ContrastiveLoss
from support import built


def loss(temperature: float = 0.1, **options) -> ContrastiveLoss:
    """The loss of vectors alone."""
    return ContrastiveLoss(torch.nn.Identity(), temperature, **options).double()


def columns(count: int = 3, rows: int = 6, seed: int = 0) -> list[Tensor]:
    """Random float64 vectors; the positives lie near their anchors."""
    anchors, *others = torch.randn(count, rows, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return [anchors, anchors + others[0], *others[1:]]


def cosines(first: Tensor, second: Tensor) -> np.ndarray:
    first, second = (side.numpy() / np.linalg.norm(side.numpy(), axis=1, keepdims=True) for side in (first, second))
    return first @ second.T


def plain(anchors: Tensor, positives: Tensor, *negatives: Tensor, margin: float, temperature: float = 0.1) -> float:
    """InfoNCE anchor by anchor."""
    scores = cosines(anchors, torch.cat([positives, *negatives]))
    losses = []
    for row, own in enumerate(np.diag(scores)):
        kept = [score for place, score in enumerate(scores[row]) if place == row or score <= own - margin]
        losses.append(np.log(np.exp(np.array(kept) / temperature).sum()) - own / temperature)
    return float(np.mean(losses))


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("margin", [-2.0, -0.1, 0.0, 0.3])
def test_negatives_above_the_margin_are_left_out(count, margin):
    given = columns(count)
    value = float(loss(margin=margin).compute_loss_from_embeddings(given))
    assert value == pytest.approx(plain(*given, margin=margin), rel=1e-12)


def test_without_a_margin_all_negatives_count():
    given = columns()
    assert float(loss().compute_loss_from_embeddings(given)) == pytest.approx(plain(*given, margin=-np.inf), rel=1e-12)


def test_no_gradient_pushes_a_false_negative_away():
    anchors, positives, negatives = columns()
    negatives[2] = anchors[4]  # the anchor itself, as the third one's hard negative
    negatives.requires_grad_(True)
    loss(margin=0.05).compute_loss_from_embeddings([anchors[4:5], positives[4:5], negatives[2:3]]).backward()
    assert torch.equal(negatives.grad, torch.zeros_like(negatives))
    loss().compute_loss_from_embeddings([anchors[4:5], positives[4:5], negatives[2:3]]).backward()
    assert negatives.grad[2].abs().sum() > 0


@pytest.mark.parametrize("margin", [None, 0.0])
def test_a_temperature_learns_by_its_gradient(margin):
    given = columns()
    learned = loss(0.1, learn_temperature=True, margin=margin)
    learned.compute_loss_from_embeddings(given).backward()
    step = 1e-5
    warmer, now = (loss(0.1 * math.exp(by), margin=margin).compute_loss_from_embeddings(given) for by in (step, 0.0))
    slope = float(warmer - now) / step
    assert float(learned.warmth.grad) == pytest.approx(100 * slope, rel=1e-3)  # 0.01 of it is a factor of e


@pytest.mark.parametrize(("beyond", "limit"), [(-10.0, COLDEST), (10.0, HOTTEST)])
def test_a_temperature_stays_in_its_range_and_can_return(beyond, limit):
    learned = loss(learn_temperature=True)
    torch.nn.init.constant_(learned.warmth, beyond)
    assert learned.temperature().item() == pytest.approx(limit)
    learned.compute_loss_from_embeddings(columns()).backward()
    assert learned.warmth.grad != 0


@pytest.mark.parametrize("matryoshka", [[], [8, 16]])
def test_the_trainer_moves_the_temperature(bert_directory, tmp_path, matryoshka):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    settings = Training(learn_temperature=True, matryoshka=matryoshka, learning_rate=1e-3, batch_size=3, epochs=2)
    objective = built("infonce", model, settings=settings)
    train(model, {"infonce": objective}, settings, tmp_path, "test", seed=0, console=Console(quiet=True))
    contrastive = objective.loss.loss if matryoshka else objective.loss
    assert abs(math.log(contrastive.temperature().item() / settings.temperature)) > 0.05


def half(rank: int, folder: Path) -> None:
    """One of two processes: its half of the rows, and the gradients it gets."""
    distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    mine = [column[3 * rank : 3 * rank + 3].clone().requires_grad_(True) for column in columns()]
    shared = loss(margin=0.0, both_ways=True, learn_temperature=True, gather=True)
    value = shared.compute_loss_from_embeddings(mine)
    value.backward()
    torch.save([value.detach(), shared.warmth.grad, *(column.grad for column in mine)], folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_compute_what_one_does(tmp_path):
    """Negatives come from both, and the mean of their gradients, which DDP takes, is the whole batch's gradient."""
    whole = [column.requires_grad_(True) for column in columns()]
    alone = loss(margin=0.0, both_ways=True, learn_temperature=True)
    value = alone.compute_loss_from_embeddings(whole)
    value.backward()
    multiprocessing.spawn(half, (tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    torch.testing.assert_close((first[0] + second[0]) / 2, value.detach())
    for warmth in (first[1], second[1]):
        torch.testing.assert_close(warmth, alone.warmth.grad)
    for column, *halves in zip(whole, first[2:], second[2:], strict=True):
        torch.testing.assert_close(torch.cat(halves) / 2, column.grad)
