"""Where adapters run: a site at every sublayer, and one on the input embeddings."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from koembed.adapters.bottleneck import Bottleneck
from koembed.adapters.fusion import Fusion


class Composition:
    """Which adapters run, in order, and how strongly: one object that all sites of a model share."""

    def __init__(self) -> None:
        self.active: list[str] = []
        self.scale: dict[str, float] = {}


class Site(nn.Module):
    """All adapters of one sublayer of one layer: each adds ``scale * adapter`` to what the one before it left.

    A sequential adapter reads what it adds to, a parallel one what the sublayer read. An adapter with scale 0 is passed
    over, so its model is the model without it, bit for bit.
    """

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        self.composition = composition
        self.adapters = nn.ModuleDict()
        self.entered: Tensor | None = None

    def forward(self, x: Tensor, entered: Tensor) -> Tensor:
        """The sublayer's output and its input, [..., hidden] both -> [..., hidden]"""
        for name in self.composition.active:
            if scale := self.composition.scale[name]:
                x = x + scale * self._output(name, x, entered)
        return x

    def _output(self, name: str, x: Tensor, entered: Tensor) -> Tensor:
        adapter = self.adapters[name]
        if isinstance(adapter, Fusion):
            scale = self.composition.scale
            outputs = [scale[task] * self._output(task, x, entered) for task in adapter.tasks]
            return adapter(x, torch.stack(outputs))
        return adapter(entered if cast(Bottleneck, adapter).parallel else x)

    def before(self, entry: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Forward pre-hook of the sublayer's entry."""
        self.entered = inputs[0]

    def after(self, exit: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Forward hook of the sublayer's exit. A bound method, so that every sublayer runs its own site."""
        entered, self.entered = cast(Tensor, self.entered), None
        return self(output, entered)


class EmbeddingSite(nn.Module):
    """The invertible adapters on the output of the input embeddings, in order."""

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        self.composition = composition
        self.adapters = nn.ModuleDict()

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]"""
        for name in self.composition.active:
            if name in self.adapters and (scale := self.composition.scale[name]):
                x = self.adapters[name](x, scale)
        return x

    def after(self, embedding: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Forward hook of the input embeddings."""
        return self(output)
