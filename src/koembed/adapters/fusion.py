"""Fusion: one task made of others."""

from __future__ import annotations

from torch import Tensor, nn


class Fusion(nn.Module):
    """Attention over the outputs z of task adapters at one site: ``sum_n w_n z_n``.

    ``w = softmax_n(query(x) . key(z_n) / sqrt(size))``

    ``query`` starts at zero: all tasks weigh the same at first, and the fusion of a single task is that task.

    Source: Pfeiffer et al. 2021, "AdapterFusion: non-destructive task composition for transfer learning". Two matrices
    of hidden x hidden and a third for the values at every site would outweigh the adapters many times, so query and key
    project to ``size``, and the values stay as they are, which is where the paper's value matrix starts.

    Args:
        tasks: names of the task adapters, in the order of their outputs.
    """

    def __init__(self, hidden: int, size: int, tasks: list[str]) -> None:
        super().__init__()
        self.tasks = tasks
        self.query = nn.Linear(hidden, size, bias=False)
        self.key = nn.Linear(hidden, size, bias=False)
        nn.init.zeros_(self.query.weight)
        nn.init.normal_(self.key.weight, std=hidden**-0.5)

    def forward(self, x: Tensor, outputs: Tensor) -> Tensor:
        """x [..., hidden] and the adapters' outputs [tasks, ..., hidden] -> [..., hidden]"""
        logits = (self.query(x) * self.key(outputs)).sum(-1) / self.key.out_features**0.5
        return (logits.softmax(0).unsqueeze(-1) * outputs).sum(0).to(x.dtype)
