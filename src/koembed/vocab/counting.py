"""Count the words of a corpus of any size, in bounded memory, with several processes where it is large."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor

from tokenizers import Tokenizer
from tokenizers.models import BPE

CHUNK = 1 << 16  # characters counted at a time
ALONE = 1 << 9  # chunks counted before other processes start: about ten seconds' work, and most corpora are smaller
PROCESSES = min(8, os.cpu_count() or 1)  # with more, adding up their counts is the slower part
DISTINCT = 1 << 18  # words counted at a time, about 50 MB; past that the rarer half is forgotten
OCCURRENCES = 50_000_000  # words shown to a trainer of `tokenizers`, whose counts have 32 bits

CountWords = Callable[[list[str]], Mapping[str, int]]


def count_words(texts: Iterable[str], count: CountWords, processes: int = PROCESSES) -> dict[str, int]:
    """How often each word occurs, in the order of first occurrence; at most ``DISTINCT`` words.

    Texts are counted in chunks, whose counts are added up in the order of the texts: any number of processes gives
    the same. Past ``DISTINCT`` words the rarer half is dropped; a word that is dropped and comes again starts from
    nothing, so counts of rare words in large corpora are lower bounds.

    Args:
        texts: read once, never held as a whole.
        count: the words of some texts and their counts; a function that other processes can import.
        processes: at most; they start only where the corpus has more than ``ALONE`` chunks.
    """
    chunks = _chunks(texts)
    alone = map(count, itertools.islice(chunks, ALONE) if processes > 1 else chunks)
    counts: dict[str, int] = {}
    for some in itertools.chain(alone, _spread(count, chunks, processes)):
        add_counts(counts, some)
        if len(counts) > DISTINCT:
            counts = without_rarest(counts, DISTINCT // 2)
    return counts


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts by so many that they have ``CHUNK`` characters."""
    chunk: list[str] = []
    length = 0
    for text in texts:
        chunk.append(text)
        length += len(text)
        if length >= CHUNK:
            yield chunk
            chunk, length = [], 0
    if chunk:
        yield chunk


def _spread(count: CountWords, chunks: Iterator[list[str]], processes: int) -> Iterator[Mapping[str, int]]:
    """Each chunk's counts, in order, from processes with two chunks each to do, so that few are held at once."""
    first = next(chunks, None)
    if first is None:
        return
    with ProcessPoolExecutor(processes) as pool:
        ahead: deque[Future[Mapping[str, int]]] = deque()
        for chunk in itertools.chain([first], chunks):
            ahead.append(pool.submit(count, chunk))
            if len(ahead) > 2 * processes:
                yield ahead.popleft().result()
        yield from (future.result() for future in ahead)


def without_model(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer that normalises and pre-tokenises like another: small, and other processes can be sent it."""
    small = Tokenizer(BPE())
    if tokenizer.normalizer is not None:
        small.normalizer = tokenizer.normalizer
    if tokenizer.pre_tokenizer is not None:
        small.pre_tokenizer = tokenizer.pre_tokenizer
    return small


def add_counts(counts: dict[str, int], more: Mapping[str, int]) -> None:
    """Add counts to others, in place."""
    for word, number in more.items():
        counts[word] = counts.get(word, 0) + number


def without_rarest(counts: dict[str, int], size: int) -> dict[str, int]:
    """The ``size`` highest counts, of equals those that came first.

    >>> without_rarest({"가": 1, "나": 2, "다": 1}, 2)
    {'가': 1, '나': 2}
    """
    if len(counts) <= size:
        return counts
    limit = sorted(counts.values(), reverse=True)[size]
    higher = {word for word, count in counts.items() if count > limit}
    equal = (word for word, count in counts.items() if count == limit)
    higher.update(itertools.islice(equal, size - len(higher)))
    return {word: count for word, count in counts.items() if word in higher}


def repeated(counts: Mapping[str, int], block: int = 1_000) -> Iterator[str]:
    """Texts that hold each word as often as it occurs: Rust's trainers take no counts, but count fast themselves.

    Past ``OCCURRENCES`` every n-th occurrence is taken, whichever word it falls on.

    Args:
        block: words in a text.

    >>> list(repeated({"가": 3, "나": 1}, block=2))
    ['가 가 ', '가 나 ', '']
    """
    step = 1 + sum(counts.values()) // OCCURRENCES
    parts: list[str] = []
    seen = held = 0
    for word, count in counts.items():
        left = (seen + count) // step - seen // step
        seen += count
        while left:
            taken = min(left, block - held)
            parts.append(f"{word} " * taken)
            left, held = left - taken, held + taken
            if held == block:
                yield "".join(parts)
                parts, held = [], 0
    yield "".join(parts)
