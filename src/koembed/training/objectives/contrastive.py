"""InfoNCE, once for all objectives that contrast: masking, gathering and the temperature live here alone."""

from __future__ import annotations

import math

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import all_gather_with_grad
from torch import Tensor, distributed, nn
from torch.nn import functional

# A learned temperature stays in the range that published models end in; CLIP caps it at 0.01 likewise.
COLDEST, HOTTEST = 0.01, 1.0

# Adam moves a parameter by about the learning rate a step. This makes a step at 5e-5 move the temperature by 0.5 %.
GAIN = 100.0


class ContrastiveLoss(nn.Module):
    """Each anchor's positive against every other text of the batch, of all processes where they gather.

    ``loss_i = -log( exp(cos(a_i, p_i) / t) / sum_c exp(cos(a_i, c) / t) )``, where ``c`` runs over the positives and
    hard negatives of all anchors. With a margin, negatives ``c`` with ``cos(a_i, c) > cos(a_i, p_i) - margin`` are
    taken for texts of the same meaning and left out of the sum.

    Columns are anchor, positive, and any number of hard negatives.

    Args:
        model: the model that trains.
        temperature: ``t``, or where it starts.
        learn_temperature: train it too (kept in 0.01 - 1), as a parameter of this loss.
        margin: of the false-negative mask; None masks nothing.
        both_ways: the mean of this loss and the one with anchors and positives exchanged (no hard negatives there).
        gather: take negatives from all processes. All must then compute this loss in the same step. Without it, each
            process learns a temperature of its own.

    Source: van den Oord, Li and Vinyals 2018, "Representation learning with contrastive predictive coding";
    Henderson et al. 2017 (in-batch negatives); Radford et al. 2021, "CLIP" (learned temperature); Solatorio 2024,
    "GISTEmbed" (the mask, there with a second model's cosines).
    """

    def __init__(
        self,
        model: SentenceTransformer,
        temperature: float,
        *,
        learn_temperature: bool = False,
        margin: float | None = None,
        both_ways: bool = False,
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.start = math.log(temperature)
        self.warmth = nn.Parameter(torch.zeros(())) if learn_temperature else None
        self.margin = margin
        self.both_ways = both_ways
        self.gather = gather
        if gather and self.warmth is not None:
            self.warmth.register_hook(_mean_over_processes)  # DDP sees the model's parameters alone

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """The mean over the batch of the columns' vectors, [batch, hidden] each, of any length; no labels are used."""
        anchors, *columns = (functional.normalize(column, dim=-1) for column in embeddings)
        loss = self._one_way(anchors, columns)
        if self.both_ways:
            loss = (loss + self._one_way(columns[0], [anchors])) / 2
        return loss

    def _one_way(self, anchors: Tensor, columns: list[Tensor]) -> Tensor:
        """Cross-entropy of each anchor's own row of the first column among all rows of all columns."""
        first = 0
        if self.gather:
            columns = [all_gather_with_grad(column) for column in columns]
            first = distributed.get_rank() * len(anchors)
        cosines = anchors @ torch.cat(columns).T
        own = torch.arange(first, first + len(anchors), device=cosines.device)
        scores = cosines / self.temperature()
        if self.margin is not None:
            scores = scores.masked_fill(_false_negatives(cosines.detach(), own, self.margin), -torch.inf)
        return functional.cross_entropy(scores, own)

    def temperature(self) -> Tensor | float:
        """The temperature now."""
        if self.warmth is None:
            return math.exp(self.start)
        with torch.no_grad():  # clamped in place, so that at the limit there is a gradient back
            self.warmth.clamp_((math.log(COLDEST) - self.start) / GAIN, (math.log(HOTTEST) - self.start) / GAIN)
        return torch.exp(self.start + GAIN * self.warmth)


def _mean_over_processes(gradient: Tensor) -> Tensor:
    gradient = gradient.clone()
    distributed.all_reduce(gradient)
    return gradient / distributed.get_world_size()


def _false_negatives(cosines: Tensor, own: Tensor, margin: float) -> Tensor:
    """Which of ``cosines`` [anchors, candidates] are above that of the anchor's positive (at ``own``) less margin."""
    false = cosines > cosines.gather(1, own[:, None]) - margin
    return false.scatter(1, own[:, None], False)
