"""Where adapters and LoRA go in a transformer: found by structure, without a list of names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from peft.tuners.lora import LoraLayer
from torch import nn

from koembed.errors import InputError


@dataclass(frozen=True)
class Sublayer:
    """Attention or feed-forward of one layer.

    Attributes:
        entry: its first Linear. What it reads is the sublayer's input: the residual stream itself where a layer
            normalises after the addition (BERT, XLM-R), its normalised form where before (Llama, Qwen3).
        exit: its last Linear. What it returns goes into the residual stream.
    """

    entry: nn.Module
    exit: nn.Module


def layer_stack(model: nn.Module, layers: int) -> nn.ModuleList:
    """The transformer layers: the first ModuleList of that length.

    Raises:
        InputError: there is none.
    """
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return module
    raise InputError(f"model {type(model).__name__}: no stack of {layers} layers found; adapters need one")


def linear_layers(module: nn.Module) -> Iterator[nn.Linear]:
    """The Linear modules inside, in order; one that PEFT has wrapped counts as one."""
    for child in module.children():
        if isinstance(child, nn.Linear | LoraLayer):
            yield cast(nn.Linear, child)
        else:
            yield from linear_layers(child)


def sublayers(model: nn.Module, layers: int) -> list[Sublayer]:
    """Attention and feed-forward of every layer, in order; 2 * ``layers`` of them.

    A layer's Linear modules are those of attention, then those of feed-forward. The exits are the last two that end
    in the residual stream's width: ``attention.output.dense`` and ``output.dense`` of BERT and XLM-R, ``o_proj`` and
    ``down_proj`` of Llama and Qwen3. The entries are the first of all and the one after attention's exit: ``query``
    and ``intermediate.dense``, ``q_proj`` and ``gate_proj``.

    Raises:
        InputError: the model is not built like this.
    """
    found: list[Sublayer] = []
    for layer in layer_stack(model, layers):
        linears = list(linear_layers(layer))
        ending = [place for place, linear in enumerate(linears) if linear.out_features == linears[-1].out_features]
        if len(ending) < 2:
            raise InputError(f"model {type(model).__name__}: a layer lacks the output projections that adapters follow")
        attention, feed_forward = ending[-2:]
        found.append(Sublayer(linears[0], linears[attention]))
        found.append(Sublayer(linears[attention + 1], linears[feed_forward]))
    return found
