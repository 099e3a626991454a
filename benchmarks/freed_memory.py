"""What mapping buffers anew costs batches of long texts, and what keeping them costs in memory.

    python benchmarks/freed_memory.py

A model of all-MiniLM-L6-v2's shape with random weights: 64 texts of 512 tokens encoded at once, in float32 as when
measuring, and a training step on 32 pairs of 256 tokens, in bf16 where the machine has it. Three ways, a process each:
as the C library does by itself, with PyTorch's huge pages (THP_MEM_ALLOC_ENABLE), and with freed memory kept. The least
of three batches after two, its page faults, and the peak of memory. The last line printed is JSON.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import version

import torch
from torch import nn
from transformers import BertConfig, BertModel

from koembed.memory import freed_memory_kept
from koembed.models import has_bf16

WAYS = {"default": {}, "huge_pages": {"THP_MEM_ALLOC_ENABLE": "1"}, "kept": {}}
WARM, REPEATS, MEGABYTE = 2, 3, 1_024  # ru_maxrss is in KB


def batch(model: BertModel, texts: int, length: int, bf16: bool) -> torch.Tensor:
    """Mean of the token vectors of each text, [texts, hidden]."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return model(torch.randint(1_000, 30_000, (texts, length))).last_hidden_state.mean(1)


def train(model: BertModel) -> None:
    """Forward passes of 32 queries and 32 passages of 256 tokens, and one backward pass of their InfoNCE."""
    model.train().zero_grad()
    queries, passages = (nn.functional.normalize(batch(model, 32, 256, has_bf16()).float()) for _ in range(2))
    nn.functional.cross_entropy(20 * queries @ passages.T, torch.arange(32)).backward()


@torch.no_grad()
def encode(model: BertModel) -> None:
    """One forward pass over 512 tokens, in float32."""
    batch(model.eval(), 64, 512, bf16=False)


def measure(work: Callable[[BertModel], None], model: BertModel) -> dict[str, float]:
    """The least seconds of a batch, its page faults, and the peak of memory until now."""
    seconds, faults = [], []
    for _ in range(WARM + REPEATS):
        faulted, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        work(model)
        seconds.append(time.perf_counter() - started)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faulted)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // MEGABYTE
    return {"seconds": round(min(seconds[WARM:]), 3), "faults": min(faults[WARM:]), "peak_mb": peak}


def one_way(way: str) -> None:
    """Measure in this process, and print JSON."""
    torch.manual_seed(0)
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1_536}
    model = BertModel(BertConfig(**shape, attention_probs_dropout_prob=0.0))
    with freed_memory_kept() if way == "kept" else nullcontext():
        print(json.dumps({work.__name__: measure(work, model) for work in (encode, train)}))


def main() -> None:
    """Run every way, and print one JSON line."""
    found = {}
    for way, environment in WAYS.items():
        command = [sys.executable, __file__, way]
        printed = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
        found[way] = json.loads(printed.stdout.splitlines()[-1])
        print(way, found[way])
    ratios = {
        f"{work}_{way}": round(found["default"][work]["seconds"] / found[way][work]["seconds"], 2)
        for work in ("encode", "train")
        for way in ("huge_pages", "kept")
    }
    machine = {"cpu": platform.machine(), "cores": os.cpu_count(), "libc": " ".join(platform.libc_ver())}
    versions = {name: version(name) for name in ("torch", "transformers")}
    print(json.dumps({"default_over": ratios, **found, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    one_way(sys.argv[1]) if len(sys.argv) > 1 else main()
