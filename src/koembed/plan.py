"""What a run would do, told beforehand: all it reads is read and counted, nothing is written below ``root``."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, floor

from rich.console import Console

from koembed.config import Config, Training, Vocab
from koembed.corpus.data import Corpus, load_bitext, load_keep, load_words
from koembed.evaluation.suites.stages import load_suite
from koembed.pipeline import NAMES, say_done, unfinished
from koembed.processes import processes
from koembed.training.objectives import source_rows
from koembed.training.stages import Workshop, example_counts, require_inputs, trainings


def plan(config: Config, console: Console, first: int = 0, last: int = 3, fresh: bool = False) -> None:
    """Print what ``pipeline.run`` with the same arguments would make, from which data, in how many steps.

    Raises:
        InputError: what would stop the run: a source, a model or a teacher that is missing, an objective without data,
            a stage that is missing or was made with other settings.
    """
    waiting = unfinished(config, first, last, fresh)
    shop = Workshop(config, console)
    with console.status("reading the data; the first time, packages are downloaded"):
        suite = load_suite(config.evaluation, load_bitext(config.data.bitext_test, "test"))
        corpus = shop.corpus
        require_inputs(shop, waiting)
    width, rows = shop.base.get_embedding_dimension(), len(shop.base.tokenizer)
    console.print(f"base     {config.model.base}: {width} dimensions, {rows:,} tokens")
    for number in range(first, last + 1):
        if number not in waiting:
            say_done(config, console, number)
            continue
        console.print(f"stage {number}  {NAMES[number]}: to make, in {config.stage(number)}")
        if number == 0:
            console.print(f"         {vocabulary(config.vocab, corpus, config.data.text_column)}")
        for label, settings in trainings(config, number).items():
            console.print(f"         {label}: {schedule(settings, corpus)}", soft_wrap=True)
    sizes = {"translations": suite.bitext, "KoPairs pairs": suite.pairs, **suite.sts, **suite.passages}
    console.print(f"measured {', '.join(f'{len(found):,} {name}' for name, found in sizes.items())}", soft_wrap=True)


def vocabulary(settings: Vocab, corpus: Corpus, text_column: str) -> str:
    """What stage 0 learns its tokens from, in words."""
    words = load_words(settings.word_list, settings.words)
    kept = load_keep(settings.trim, corpus, text_column)
    trimmed = f", trimmed to what {len(kept):,} texts need" if kept else ""
    pieces = settings.size if settings.size == "auto" else f"{settings.size:,}"
    return (
        f"{pieces} pieces of {len(corpus.texts):,} texts and {len(words):,} words{trimmed}; "
        f"rows start by {settings.initializer}"
    )


def schedule(settings: Training, corpus: Corpus) -> str:
    """What a training draws from the corpus and in how many steps it goes through it, in words."""
    counts = example_counts(settings)
    there = {name: len(source_rows(name, corpus)) for name in counts}
    drawn = {name: min(count, there[name]) for name, count in counts.items()}
    together = processes().num_processes
    examples = settings.batch_size * settings.accumulation * together
    parts = (f"{name} {count:,} of {there[name]:,}" for name, count in drawn.items())
    return f"{steps(drawn.values(), settings, together)} steps of {examples} examples, from {', '.join(parts)}"


def steps(counts: Iterable[int], settings: Training, together: int) -> int:
    """Optimizer steps over so many examples of each objective.

    As the trainer counts them: a batch is of one objective, and several processes drop what fills no batch of each.

    Args:
        together: processes that train.
    """
    batches = [count / settings.batch_size for count in counts]
    each = sum(map(ceil, batches)) if together == 1 else sum(map(floor, batches)) // together
    return ceil(settings.epochs * max(ceil(each / settings.accumulation), 1))
