"""Which parameters a full-weights stage trains, and how they return to the model afterwards."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import cast

import torch
from peft import LoraConfig, LoraModel
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import PreTrainedModel

from koembed.adapters.structure import layer_stack, linear_layers
from koembed.config import Weights
from koembed.models import backbone, input_rows, layer_count


@contextmanager
def train_only(model: SentenceTransformer, settings: Weights, first_new_row: int) -> Iterator[None]:
    """Let some parameters train and no others; on leaving, ``model`` is a plain one with all it learned in its weights.

    ``all``: every one. ``embeddings``: the input embeddings. ``new_rows``: of these, the rows from ``first_new_row``.
    ``lora``: the new rows, and every Linear module of the layers through an update of rank ``lora_rank``.
    """
    model.requires_grad_(settings.trains == "all")
    with ExitStack() as stack:
        if settings.trains == "embeddings":
            input_rows(model).requires_grad_(True)
        if settings.trains == "lora":
            stack.enter_context(low_rank(backbone(model), settings.lora_rank))
        if settings.trains in ("new_rows", "lora"):
            stack.enter_context(new_rows(backbone(model), first_new_row))
        yield


@contextmanager
def low_rank(network: PreTrainedModel, rank: int) -> Iterator[None]:
    """LoRA on every Linear module of the layers, scaled by 2; merged into them on leaving.

    Source: Hu et al. 2022, "LoRA: low-rank adaptation of large language models".
    """
    chosen = set(linear_layers(layer_stack(network, layer_count(network.config))))
    names = [name for name, module in network.named_modules() if module in chosen]
    tuner = LoraModel(network, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names), "lora")
    yield
    tuner.merge_and_unload()


@contextmanager
def new_rows(network: PreTrainedModel, first: int) -> Iterator[None]:
    """Train the input embeddings' rows from ``first`` on as a matrix of their own; copied back on leaving.

    The rows before it are never in a gradient nor in the optimizer: they stay bit for bit and cost nothing.
    """
    embedding = cast(nn.Embedding, network.get_input_embeddings())
    split = SplitEmbedding(embedding, first)
    network.set_input_embeddings(split)
    yield
    network.set_input_embeddings(embedding)
    with torch.no_grad():
        embedding.weight[first:] = split.added.weight


class SplitEmbedding(nn.Module):
    """An embedding whose rows from ``first`` on are looked up in a trainable copy, the others in the frozen matrix.

    Both are of the embedding's own class, since some scale what they look up (Gemma).
    """

    def __init__(self, embedding: nn.Embedding, first: int) -> None:
        super().__init__()
        self.first = first
        self.frozen = embedding.requires_grad_(False)
        self.added = copy.deepcopy(embedding)
        self.added.weight = nn.Parameter(embedding.weight[first:].clone())
        self.added.padding_idx = None  # an id below ``first``

    def forward(self, ids: Tensor) -> Tensor:
        """int64 [...] -> [..., hidden]"""
        added = self.added((ids - self.first).clamp(min=0))
        return torch.where((ids >= self.first).unsqueeze(-1), added, self.frozen(ids))
