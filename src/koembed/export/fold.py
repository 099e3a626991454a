"""Adapters folded into the layers that they follow: what is left is a plain model, which opens without koembed.

An adapter without an activation is linear. After a layer ``y = W x + b`` it gives ``y + s (U (D y + d) + u)``, which is
a layer of weight ``(1 + s U D) W`` and bias ``(1 + s U D) b + s (U d + u)``: no code of its own, and no time.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.transformer import Transformer
from torch import nn

from koembed.adapters.bottleneck import Bottleneck
from koembed.adapters.model import AdaptedTransformer, AdapterSpec, opened
from koembed.adapters.structure import sublayers
from koembed.errors import InputError
from koembed.models import backbone, layer_count


def folded(model: SentenceTransformer, place: Path, task: str | None = None) -> SentenceTransformer:
    """A plain model that computes what an adapted one does with a task's adapter.

    Args:
        model: begins with an ``AdaptedTransformer``.
        place: directory that it was opened from.
        task: the task adapter that is folded in; None: the first, if there is one.

    Raises:
        InputError: an adapter of strength above 0 is not linear, or is not where a layer ends.
    """
    module = cast(AdaptedTransformer, model[0])
    module.select(task)
    running = [module.specs[name] for name in module.composition.active if module.specs[name].scale]
    for spec in running:
        if reason := _obstacle(spec):
            raise InputError(f"adapter {spec.name} cannot be folded: {reason}")
    plain = opened(place, Transformer)
    network = backbone(plain)
    layers = [sublayer.exit for sublayer in sublayers(network, layer_count(network.config))]
    for layer, site in zip(layers, module.sublayer_sites, strict=True):
        for spec in running:
            fold(cast(nn.Linear, layer), cast(Bottleneck, site.adapters[spec.name]), spec.scale)
    return plain


def _obstacle(spec: AdapterSpec) -> str | None:
    """Why an adapter is no part of the layer that it follows, in words, or None where it is."""
    found = {
        f"it has the activation {spec.activation}; train it with activation: identity": spec.activation != "identity",
        "it runs beside its sublayer; train it with form: sequential": spec.form != "sequential",
        "it changes embeddings; train it with invertible: false": spec.invertible,
        "it fuses tasks; export these": bool(spec.fuses),
    }
    return next((reason for reason, is_so in found.items() if is_so), None)


@torch.no_grad()
def fold(layer: nn.Linear, adapter: Bottleneck, scale: float) -> None:
    """Let a layer compute, in place, what an adapter without activation makes of its output; in float64 arithmetic."""
    down, up = adapter.down, adapter.up
    product = scale * up.weight.double() @ down.weight.double()
    product.diagonal().add_(1)
    if layer.bias is not None:
        bias = product @ layer.bias.double()
        if down.bias is not None:
            bias += scale * (up.weight.double() @ down.bias.double() + up.bias.double())
        layer.bias.copy_(bias)
    layer.weight.copy_(product @ layer.weight.double())
