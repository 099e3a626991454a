"""How fast continued BPE learns: against Rust training from scratch, and against plain Python, on the same words."""

from __future__ import annotations

import heapq
import itertools
import os
import runpy
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from koembed.vocab import bpe
from koembed.vocab.counting import without_rarest
from koembed.vocab.learned import Learned

ORACLE = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "vocab" / "test_bpe.py"))
train_in_python, join = ORACLE["train_in_python"], ORACLE["join"]

PYTHON_TEXTS, PYTHON_SIZE = 20_000, 400  # what the oracle, which looks at every pair for every merge, does in seconds
REPEATS = 2
Result = TypeVar("Result")


def timed(name: str, work: Callable[[], Result], repeats: int = REPEATS) -> tuple[float, Result]:
    """CPU seconds of all threads and processes together, in the best of some runs, and what the work returned.

    CPU time bears other work on the machine, and flatters nobody: what runs in parallel counts in full.
    """
    best = float("inf")
    for _ in range(repeats):
        start = sum(os.times()[:4])
        result = work()
        best = min(best, sum(os.times()[:4]) - start)
    print(f"{name}: {best:.2f} s", flush=True)
    return best, result


def train_with_heap(runs: Mapping[str, int], merges: int) -> list[bpe.Pair]:
    """The oracle's merges, found by a heap of counts instead of a look at every pair: as fast as plain Python gets."""
    age = {char: number for number, char in enumerate(sorted(set().union(*runs)))}
    words, weights = [list(run) for run in runs], list(runs.values())
    counts: Counter[bpe.Pair] = Counter()
    places: defaultdict[bpe.Pair, set[int]] = defaultdict(set)
    for number, (word, weight) in enumerate(zip(words, weights, strict=True)):
        for pair in itertools.pairwise(word):
            counts[pair] += weight
            places[pair].add(number)
    heap = [(-count, age[pair[0]], age[pair[1]], pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    found: list[bpe.Pair] = []
    while heap and len(found) < merges:
        negative, _, _, pair = heapq.heappop(heap)
        count = counts[pair]
        if -negative != count:  # it has become rarer since: later
            heapq.heappush(heap, (-count, age[pair[0]], age[pair[1]], pair))
            continue
        if count < bpe.FREQUENCY:
            break
        found.append(pair)
        age.setdefault("".join(pair), len(age))
        changed = set()
        for number in places.pop(pair):
            old, weight = words[number], weights[number]
            words[number] = new = join(old, pair)
            for neighbours in itertools.pairwise(old):
                counts[neighbours] -= weight
            for neighbours in itertools.pairwise(new):
                counts[neighbours] += weight
                if neighbours[0] not in old or neighbours[1] not in old:
                    places[neighbours].add(number)
                    changed.add(neighbours)
        for left, right in changed:
            heapq.heappush(heap, (-counts[left, right], age[left], age[right], (left, right)))
    return found


def continued(base: bpe.Base, counts: dict[str, int], size: int, train: Callable[..., list[bpe.Pair]]) -> Learned:
    """From counted words to tokens, with one trainer or another."""
    runs, symbols = bpe.encode_runs(base, counts)
    return bpe.replay(base, train(runs, size), symbols, size)


def speed(tokenizer: Tokenizer, texts: list[str], size: int) -> dict[str, Any]:
    """CPU seconds and ratios, from counted words on and from texts on."""
    base = bpe.read_base(tokenizer)
    counts = without_rarest(bpe.count_pretokens(base, texts), bpe.TRAINED)
    few = bpe.count_pretokens(base, texts[:PYTHON_TEXTS])

    def from_texts() -> None:
        learner = Tokenizer(BPE())
        learner.normalizer, learner.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
        trainer = BpeTrainer(vocab_size=256 + size, min_frequency=bpe.FREQUENCY, show_progress=False)
        learner.train_from_iterator(texts, trainer)

    # The oracles are told how many merges to make: train() makes a quarter more than tokens.
    ours, learned = timed("continued", lambda: continued(base, counts, size, bpe.train))
    heap, same = timed(
        "plain Python with a heap",
        lambda: continued(base, counts, size, lambda r, n: train_with_heap(r, n + n // 4)),
        repeats=1,
    )
    scratch, _ = timed("scratch", lambda: bpe.train(counts, size))
    ours_few, learned_few = timed("continued, few words", lambda: continued(base, few, PYTHON_SIZE, bpe.train))
    python, same_few = timed(
        "plain Python, few words",
        lambda: continued(base, few, PYTHON_SIZE, lambda r, n: train_in_python(r, n + n // 4)),
        repeats=1,
    )
    texts_ours, _ = timed("continued, from texts", lambda: bpe.learn_bpe(tokenizer, texts, size))
    texts_scratch, _ = timed("scratch, from texts", from_texts)
    return {
        "bpe_vs_scratch": ours / scratch,
        "bpe_vs_scratch_from_texts": texts_ours / texts_scratch,
        "bpe_vs_python": python / ours_few,
        "bpe_vs_python_with_heap": heap / ours,
        "same_as_python": same == learned and same_few == learned_few,
        "words": len(counts),
        "cpu_seconds": {
            "continued": ours,
            "scratch": scratch,
            "continued_few": ours_few,
            "python_few": python,
            "python_with_heap": heap,
            "continued_from_texts": texts_ours,
            "scratch_from_texts": texts_scratch,
        },
    }
