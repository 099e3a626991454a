"""What an adapter costs to train, by where it is: multilingual-e5-small on graded pairs of KoPairs.

    python benchmarks/output_adapters.py

Three ways over the same pairs, as often: adapters after every sublayer, which each step runs and differentiates the
whole model for; one on the last states, with the texts read at every step, as sentence-transformers trains a Dense
module on a frozen model; and the same on what has been read once, as koembed does. Beside the seconds, Spearman of
graded pairs that none was trained on. Takes ten CPU minutes; the last line printed is JSON.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from environment import environment
from rich.console import Console
from sentence_transformers import SentenceTransformer

from koembed.adapters.model import AdapterSpec, adapted
from koembed.adapters.remembered import remembered
from koembed.cli import keep_freed_memory, quiet_libraries
from koembed.config import Training
from koembed.corpus import kopairs
from koembed.corpus.data import Corpus, locate_model
from koembed.metrics import cosines, spearman
from koembed.training.engine import train
from koembed.training.objectives import Context, build

PAIRS, PASSES = 1_280, 3
SUBLAYERS, EACH_STEP, ONCE = "after every sublayer", "on the last states", "on what was read once"
SETTINGS = {
    SUBLAYERS: AdapterSpec("bottleneck", 64),
    EACH_STEP: AdapterSpec("bottleneck", 384, form="output"),
    ONCE: AdapterSpec("bottleneck", 384, form="output"),
}


def trained(way: str, pairs: list[tuple[str, str, float]]) -> tuple[SentenceTransformer, float]:
    """The adapted model, and the seconds of its training."""
    torch.manual_seed(0)
    model = adapted(Path(locate_model("pypi:multilingual-e5-small")))
    model[0].add_adapter(SETTINGS[way])
    model.requires_grad_(False)
    model[0].freeze_except("bottleneck")
    student = remembered(model, {}) if way == ONCE else model
    settings = Training(batch_size=32, epochs=PASSES, learning_rate=1e-3, warmup=0.1)
    corpus = Corpus(texts=[], bitext=[], triplets=[], scored=pairs)
    context = Context(student, lambda _: np.empty(0), [], settings, random.Random(0))
    objectives = {"correlation": build("correlation", context, corpus, len(pairs))}
    started = time.perf_counter()
    with TemporaryDirectory() as directory:
        train(student, objectives, settings, Path(directory), way, seed=0, console=Console(quiet=True))
    return model, time.perf_counter() - started


def main() -> None:
    """Run, and print one JSON line."""
    quiet_libraries()
    keep_freed_memory()
    graded = [(first, second, score / 5) for first, second, score in kopairs.graded()]
    pairs = random.Random(0).sample(graded, PAIRS)
    held_out = [pair for pair in kopairs.pairs("select") if pair.kind == "graded"]
    sentences = [(pair.sentence1, pair.sentence2) for pair in held_out]
    scores = np.array([pair.score for pair in held_out])
    seconds, ranked = {}, {}
    for way in SETTINGS:
        model, seconds[way] = trained(way, pairs)
        ranked[way] = spearman(cosines(model, sentences), scores)
        print(f"{way:22} {seconds[way]:6.1f} s, Spearman {ranked[way]:.4f}", flush=True)
    figures = {
        "seconds": {way: round(spent, 1) for way, spent in seconds.items()},
        "time_over_sublayers": {way: round(spent / seconds[SUBLAYERS], 3) for way, spent in seconds.items()},
        "spearman": {way: round(value, 4) for way, value in ranked.items()},
        **environment("transformers", "sentence-transformers"),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
