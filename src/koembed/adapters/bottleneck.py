"""Bottleneck adapters after both sublayers of every transformer layer, found by structure."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from koembed.errors import InputError

ACTIVATIONS = {"gelu": nn.GELU, "identity": nn.Identity}


class Bottleneck(nn.Module):
    """``x -> up(activation(down(x)))``, hidden -> size -> hidden; zero at first, since ``up`` starts at zero.

    Source: Houlsby et al. 2019, "Parameter-efficient transfer learning for NLP".
    """

    def __init__(self, hidden: int, size: int, activation: str) -> None:
        super().__init__()
        self.down = nn.Linear(hidden, size)
        self.activation = ACTIVATIONS[activation]()
        self.up = nn.Linear(size, hidden)
        nn.init.normal_(self.down.weight, std=hidden**-0.5)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]"""
        return self.up(self.activation(self.down(x)))


class Composition:
    """Which adapters run, in order, and how strongly: one object that all sites of a model share."""

    def __init__(self) -> None:
        self.active: list[str] = []
        self.scale: dict[str, float] = {}


class Site(nn.Module):
    """All adapters after one sublayer of one layer: each adds ``scale * adapter(x)`` to what the one before it left.

    An adapter with scale 0 is passed over, so its model is the model without it, bit for bit.
    """

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        self.composition = composition
        self.adapters = nn.ModuleDict()

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]"""
        for name in self.composition.active:
            if scale := self.composition.scale[name]:
                x = x + scale * self.adapters[name](x)
        return x

    def after(self, sublayer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Forward hook of the sublayer. A bound method, so that every sublayer runs its own site."""
        return self(output)


def sublayer_outputs(model: nn.Module, layers: int) -> list[nn.Linear]:
    """The output projections of attention and feed-forward of every layer, in order; 2 * ``layers`` modules.

    By structure, without names: the layers are the ModuleList of that length; in each, the projections are the last
    two Linear modules that end in the residual stream's width (of attention, then of feed-forward). This finds
    ``attention.output.dense`` and ``output.dense`` of BERT and XLM-R, ``o_proj`` and ``down_proj`` of Llama and Qwen3.

    Raises:
        InputError: the model is not built like this.
    """
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == layers]
    if not stacks:
        raise InputError(f"model {type(model).__name__}: no stack of {layers} layers found; adapters need one")
    found: list[nn.Linear] = []
    for layer in stacks[0]:
        linears = [module for module in layer.modules() if isinstance(module, nn.Linear)]
        ending = [linear for linear in linears if linear.out_features == linears[-1].out_features]
        if len(ending) < 2:
            raise InputError(f"model {type(model).__name__}: a layer lacks the output projections that adapters follow")
        found += ending[-2:]
    return found
