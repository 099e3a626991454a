"""A training step of all-MiniLM-L6-v2's shape with 45K rows, float32, with and without ``keep_freed_memory``.

    python benchmarks/kept_memory.py

64 texts of 16 tokens, two passes and one update. Each way is a process of its own, since what is kept stays kept; the
ways take turns. Seconds are the median step of all, without the first two of a process; faults are a step's page
faults. The last line printed is JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from statistics import median

from environment import environment

WAYS, PROCESSES, STEPS = ("freed", "kept"), 3, 8


def steps(way: str) -> tuple[list[float], int, float]:
    """Seconds of each step, page faults a step, and the peak of the process's memory in GB."""
    import torch
    from transformers import BertConfig, BertModel

    from koembed.cli import keep_freed_memory

    if way == "kept":
        keep_freed_memory()
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1_536}
    model = BertModel(BertConfig(vocab_size=45_000, **shape)).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    taken = []
    for step in range(STEPS + 2):
        if step == 2:
            faulted = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        started = time.perf_counter()
        ids = torch.randint(1_000, 45_000, (64, 16))
        first, second = (model(ids).last_hidden_state.mean(1) for _ in range(2))
        (first @ second.T).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        taken.append(time.perf_counter() - started)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return taken[2:], (used.ru_minflt - faulted) // STEPS, used.ru_maxrss / 1e6


def main() -> None:
    """Run, and print one JSON line."""
    context = multiprocessing.get_context("spawn")
    runs: dict[str, list[tuple[list[float], int, float]]] = {way: [] for way in WAYS}
    for way in WAYS * PROCESSES:
        with context.Pool(1) as pool:
            runs[way].append(pool.apply(steps, (way,)))
    seconds = {way: median([step for found, _, _ in runs[way] for step in found]) for way in WAYS}
    figures = {
        "seconds": {way: round(second, 3) for way, second in seconds.items()},
        "faults": {way: max(faults for _, faults, _ in runs[way]) for way in WAYS},
        "peak_gb": {way: round(max(peak for _, _, peak in runs[way]), 2) for way in WAYS},
        "kept_over_freed": round(seconds["kept"] / seconds["freed"], 2),
        **environment("transformers"),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
