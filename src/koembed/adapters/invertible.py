"""The invertible adapter on the input embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from koembed.adapters.bottleneck import Bottleneck


class Coupling(nn.Module):
    """Two additive couplings of a vector's halves: ``l' = l + a F(r)``, ``r' = r + a G(l')`` with bottlenecks F and G.

    Invertible at any strength ``a``, so that no two tokens become one; the identity at first. A language model would
    run the inverse before its output embeddings (tied to the input's); an encoder has no output layer, so there is
    none here.

    Sources: Pfeiffer et al. 2020, "MAD-X"; Dinh et al. 2015, "NICE: non-linear independent components estimation".
    """

    def __init__(self, hidden: int, size: int, activation: str) -> None:
        super().__init__()
        self.left = Bottleneck(hidden // 2, size, activation)
        self.right = Bottleneck(hidden // 2, size, activation)

    def forward(self, x: Tensor, scale: float) -> Tensor:
        """[..., hidden] -> [..., hidden]"""
        left, right = x.chunk(2, dim=-1)
        left = left + scale * self.left(right)
        right = right + scale * self.right(left)
        return torch.cat([left, right], dim=-1)
