"""Attention while a model trains in bf16 on a CPU: in float32, which takes a fraction of the time there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from koembed.models import backbone

FUSED, FUSED_IN_FLOAT32 = "sdpa", "sdpa_in_float32"


def attend_in_float32(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Fused attention, [batch, heads, tokens, width] each -> [batch, tokens, heads, width] of the dtype they have."""
    with torch.autocast(query.device.type, enabled=False):
        out, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **options)
    return out.to(query.dtype), None


AttentionInterface.register(FUSED_IN_FLOAT32, attend_in_float32)
AttentionMaskInterface.register(FUSED_IN_FLOAT32, sdpa_mask)


@contextmanager
def float32_attention(model: SentenceTransformer) -> Iterator[None]:
    """Fused attention in float32 within, autocast or not; models that attend in a way of their own go on doing so.

    On a CPU torch's backward pass of it in bf16 makes its products head by head with oneDNN, which prepares each of
    them anew: 13 ms for 384 heads of 26 tokens, whose products are 0.1 ms of bf16 arithmetic. In float32 it takes
    2.6 ms, casts included, and a training step of multilingual-e5-small 0.66 of the time (benchmarks/attention.py).
    """
    network = backbone(model)
    if network.config._attn_implementation != FUSED:
        yield
        return
    network.set_attn_implementation(FUSED_IN_FLOAT32)
    try:
        yield
    finally:
        network.set_attn_implementation(FUSED)
