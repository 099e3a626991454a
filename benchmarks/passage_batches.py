"""What 64 texts of 512 tokens cost to encode, by how many are encoded at once: all-MiniLM-L6-v2's shape, float32.

    python benchmarks/passage_batches.py

The least of three after one to warm up, and its page faults; the ways in turns. The last line printed is JSON.
"""

from __future__ import annotations

import json
import resource
import time

import torch
from environment import environment
from transformers import BertConfig, BertModel

TEXTS, LENGTH, BATCHES, REPEATS = 64, 512, (4, 8, 16, 64), 4


@torch.inference_mode()
def encode(model: BertModel, batch: int) -> tuple[float, int]:
    """Seconds and page faults of all texts, ``batch`` at once."""
    faulted, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    for _ in range(TEXTS // batch):
        model(torch.randint(1_000, 30_000, (batch, LENGTH)))
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faulted


def main() -> None:
    """Run, and print one JSON line."""
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1_536}
    model = BertModel(BertConfig(**shape)).eval()
    runs = [{batch: encode(model, batch) for batch in BATCHES} for _ in range(REPEATS)][1:]
    least = {batch: min(run[batch] for run in runs) for batch in BATCHES}
    figures = {
        "seconds": {batch: round(seconds, 2) for batch, (seconds, _) in least.items()},
        "faults": {batch: faults for batch, (_, faults) in least.items()},
        "all_over_8": round(least[64][0] / least[8][0], 2),
        **environment("transformers"),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
