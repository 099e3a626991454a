"""What attention costs a training step in bf16 on a CPU, by length: multilingual-e5-small, 2,048 tokens a step.

    python benchmarks/attention.py

Forward and backward under autocast, in three ways in turns: torch's fused attention in bf16, transformers' plain
products (eager), and fused attention in float32, which is how koembed trains. None drops attention weights, which would
keep it from being fused. The least of five; of attention alone too. Takes five CPU minutes; the last line printed is
JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from environment import environment
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from koembed.cli import keep_freed_memory
from koembed.corpus.data import locate_model
from koembed.models import backbone, open_model
from koembed.training.attention import attend_in_float32, float32_attention
from koembed.training.dropout import dropout

TOKENS, LENGTHS, REPEATS = 2_048, (16, 32, 64, 128, 256, 512), 5
HEADS, WIDTH = 12, 32


@contextmanager
def eager(model: SentenceTransformer) -> Any:
    """Attention as transformers writes it out."""
    backbone(model).set_attn_implementation("eager")
    yield
    backbone(model).set_attn_implementation("sdpa")


STEPS: dict[str, Callable[[SentenceTransformer], AbstractContextManager[None]]] = {
    "torch": lambda model: nullcontext(),
    "eager": eager,
    "koembed": float32_attention,
}


def step(model: SentenceTransformer, length: int) -> float:
    """Seconds of one forward and backward pass; a quarter of the texts is padded."""
    ids = torch.randint(1_000, 30_000, (TOKENS // length, length))
    mask = torch.ones_like(ids)
    mask[::4, length * 3 // 4 :] = 0
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        vectors = model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]
    vectors.float().square().sum().backward()
    return time.perf_counter() - started


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """torch's own."""
    return nn.functional.scaled_dot_product_attention(query, key, value)


def in_float32(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """koembed's."""
    module = nn.Module()
    module.is_causal = False  # type: ignore[assignment]
    return attend_in_float32(module, query, key, value, None)[0]


def attention(way: Callable[[Tensor, Tensor, Tensor], Tensor], length: int) -> float:
    """Seconds of one layer's attention, forward and backward, from bf16."""
    shape = (TOKENS // length, HEADS, length, WIDTH)
    inputs = [torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    started = time.perf_counter()
    way(*inputs).sum().backward()
    return time.perf_counter() - started


def main() -> None:
    """Run, and print one JSON line."""
    keep_freed_memory()
    model = open_model(locate_model("pypi:multilingual-e5-small"), max(LENGTHS)).train()
    ways = {"torch": fused, "koembed": in_float32}
    seconds: dict[str, dict[str, dict[int, float]]] = {"step": {}, "attention": {}}
    for length in LENGTHS:
        taken: dict[str, list[float]] = {name: [] for name in STEPS}
        for _ in range(REPEATS):
            for name, changed in STEPS.items():
                with changed(model), dropout(model, 0.0):
                    taken[name].append(step(model, length))
        for name, found in taken.items():
            seconds["step"].setdefault(name, {})[length] = round(min(found), 3)
        for name, way in ways.items():
            least = min(attention(way, length) for _ in range(2 * REPEATS))
            seconds["attention"].setdefault(name, {})[length] = round(least, 4)
    figures = {
        "seconds": seconds,
        **environment("transformers", "sentence-transformers"),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
