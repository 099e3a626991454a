"""Dropout while a model trains: forced on where there is none, left out of attention, and its masks made cheap."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from koembed.adapters.structure import sublayers
from koembed.models import backbone, layer_count


@contextmanager
def dropout(model: SentenceTransformer, forced: float) -> Iterator[None]:
    """A model's dropout as it trains: none of attention, and where it has none, ``forced`` of its last states."""
    with fused_attention(model), forced_dropout(model, forced), cheap_masks(model):
        yield


def drop(x: Tensor, probability: float) -> Tensor:
    """Elements 0 with the probability, the others divided by 1 - probability; any shape, dtype and device.

    On a CPU torch draws a mask of Bernoulli variables at 8 to 12 ns each, on one thread. Here 64 random bits decide
    over four elements: a third of the time, forward and backward (benchmarks/dropout.py). 16 bits each meet the
    probability to 8e-6.

    Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """
    if x.device.type != "cpu":
        return nn.functional.dropout(x, probability)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    chance = words.view(torch.int16)[: x.numel()].view(x.shape)
    kept = chance >= round(probability * 2**16) - 2**15
    return x * kept.to(x.dtype).mul_(1 / (1 - probability))


@contextmanager
def cheap_masks(model: SentenceTransformer) -> Iterator[None]:
    """The model's dropout modules drop as ``drop`` does within."""
    modules = [module for module in model.modules() if isinstance(module, nn.Dropout)]

    def forward_of(module: nn.Dropout) -> Any:
        return lambda x: drop(x, module.p) if module.training and module.p else x

    for module in modules:
        module.forward = forward_of(module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in modules:
            del module.forward


@contextmanager
def forced_dropout(model: SentenceTransformer, probability: float) -> Iterator[None]:
    """Drop elements of the token states that are pooled, on models that train without dropout (Qwen3, Llama, Gemma).

    Of last-token pooling, two views of a text then have a cosine of about 1 - probability, as with BERT's own dropout;
    of mean pooling they are nearer. Inside the layers of a network that never knew dropout it leaves nothing of the
    text: its few massive activations are hit, and the error grows from layer to layer (docs/lab-notes.md). With
    probability 0, or on a model whose own dropout is on, nothing changes.

    Source: Gao et al. 2021, "SimCSE"; Sun et al. 2024, "Massive activations in large language models".
    """
    own = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())

    def after(module: nn.Module, inputs: Any, features: dict[str, Any]) -> dict[str, Any]:
        if module.training and probability and not own:
            features["token_embeddings"] = drop(features["token_embeddings"], probability)
        return features

    hook = model[0].register_forward_hook(after)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def fused_attention(model: SentenceTransformer) -> Iterator[None]:
    """No dropout of attention weights within; that of sublayer outputs stays on.

    It would need the matrix of all pairs of tokens, which fused attention never forms. Its module lies beside the
    query map, the entry of attention, in BERT, XLM-R, MPNet and DistilBERT. Decoders have a rate in its place, 0 as
    published.
    """
    network = backbone(model)
    queries = {sublayer.entry for sublayer in sublayers(network, layer_count(network.config))[::2]}
    probabilities = {
        child: child.p
        for module in network.modules()
        if queries.intersection(module.children())
        for child in module.children()
        if isinstance(child, nn.Dropout)
    }
    for module in probabilities:
        module.p = 0.0
    try:
        yield
    finally:
        for module, probability in probabilities.items():
            module.p = probability
