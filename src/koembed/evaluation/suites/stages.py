"""The suite that every stage is measured with: the same pairs, the same intervals, the same sentences."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from koembed.adapters.model import has_task
from koembed.config import Evaluation
from koembed.corpus import kopairs
from koembed.corpus.data import load_passages, load_sts
from koembed.errors import InputError
from koembed.evaluation.significance import discrimination
from koembed.metrics import (
    Interval,
    auc,
    bootstrap,
    cosines,
    encode,
    passage_ndcg,
    retrieval_accuracy,
    spearman,
)

RESERVED = {"similar", "hard", "plain", "graded", "ko_en", "en_ko"}  # sets of the suite itself


@dataclass
class Suite:
    """Sentences to measure on; nothing of them was trained or selected on.

    Attributes:
        pairs: labelled pairs (KoPairs test).
        probes: minimal sets by phenomenon.
        bitext: (English, Korean) held-out translations.
        sts: name -> (sentence, sentence, score 0-5).
        passages: name -> (query, the one passage that answers it).
    """

    pairs: tuple[kopairs.Pair, ...]
    probes: tuple[kopairs.Probe, ...]
    bitext: list[tuple[str, str]]
    sts: dict[str, list[tuple[str, str, float]]] = field(default_factory=dict)
    passages: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    resamples: int = 1_000
    batch_size: int = 64

    def fingerprint(self) -> str:
        """Of all that is measured and how: results of suites with one fingerprint can be compared."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def pairs_by_set(self) -> dict[str, list[tuple[str, str]]]:
        """Sentence pairs of KoPairs by kind, and of every STS set by name."""
        found: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for pair in self.pairs:
            found[pair.kind].append((pair.sentence1, pair.sentence2))
        for name, rows in self.sts.items():
            found[name] = [(first, second) for first, second, _ in rows]
        return dict(found)

    def scores(self) -> dict[str, np.ndarray]:
        """Gold scores of the graded sets: "graded" for KoPairs', the STS sets by name."""
        graded = [pair.score for pair in self.pairs if pair.score is not None]
        return {
            "graded": np.array(graded),
            **{name: np.array([s for *_, s in rows]) for name, rows in self.sts.items()},
        }


def load_suite(settings: Evaluation, bitext: list[tuple[str, str]]) -> Suite:
    """KoPairs' test split and probes, the given translations, and every file of the settings under its own name.

    Raises:
        InputError: a file is missing or is none of its kind, or two have one name.
    """
    names = set(RESERVED)
    for path in [*settings.sts, *settings.passages]:
        if (name := set_name(path)) in names:
            raise InputError(f"evaluation: {path} would be reported as {name!r}, which is taken; rename the file")
        names.add(name)
    return Suite(
        pairs=kopairs.pairs("test"),
        probes=kopairs.probes(),
        bitext=bitext,
        sts={set_name(path): load_sts(str(path)) for path in settings.sts},
        passages={set_name(path): load_passages([path]) for path in settings.passages},
        resamples=settings.bootstrap,
        batch_size=settings.batch_size,
    )


def set_name(path: Path) -> str:
    """What a file's results are reported as: its name without the endings."""
    return path.name.split(".")[0]


def measure(model: SentenceTransformer, suite: Suite) -> dict[str, Any]:
    """Every metric of the suite as ``{"value", "low", "high"}``.

    What they are the statistics of is kept beside them, so that two models can be compared pair by pair: "cosines" of
    every pair, by set; "queries", by set, whether or how high each finds what it should.
    """
    found = {name: cosines(model, pairs, suite.batch_size) for name, pairs in suite.pairs_by_set().items()}
    scores = suite.scores()
    passages = {name: passage_ndcg(model, pairs, suite.batch_size) for name, pairs in suite.passages.items()}
    queries = {**_translations(model, suite), **passages}
    means = {name: asdict(bootstrap(np.mean, values, resamples=suite.resamples)) for name, values in queries.items()}
    results = {**_labelled(found, suite), "passages": {name: means.pop(name) for name in suite.passages}, **means}
    ranking = {name: asdict(_ranking(found[name], scores[name], suite)) for name in scores}
    results["spearman"] = ranking.pop("graded")
    results["sts"] = ranking
    results["probes"] = {name: asdict(share) for name, share in _probes(model, suite).items()}
    results["tokens_per_word"] = fertility(model, [pair.sentence1 for pair in suite.pairs])
    results["cosines"] = {name: values.round(5).tolist() for name, values in found.items()}
    results["queries"] = {name: values.round(5).tolist() for name, values in queries.items()}
    return results


def _labelled(found: dict[str, np.ndarray], suite: Suite) -> dict[str, Any]:
    similar, hard, plain = (found[kind].astype(np.float64) for kind in ("similar", "hard", "plain"))
    different = np.concatenate([hard, plain])
    metrics: dict[str, tuple[Any, ...]] = {
        "similar": (np.mean, similar),
        "different": (np.mean, different),
        "discrimination": (discrimination, similar, different),
        "auc": (auc, similar, different),
        "auc_hard": (auc, similar, hard),
        "auc_plain": (auc, similar, plain),
    }
    return {
        name: asdict(bootstrap(statistic, *groups, resamples=suite.resamples))
        for name, (statistic, *groups) in metrics.items()
    }


def _ranking(predicted: np.ndarray, scores: np.ndarray, suite: Suite) -> Interval:
    table = np.column_stack([predicted, scores])
    return bootstrap(lambda rows: spearman(rows[:, 0], rows[:, 1]), table, resamples=suite.resamples)


def _translations(model: SentenceTransformer, suite: Suite) -> dict[str, np.ndarray]:
    """1 for each sentence whose translation is the nearest of all, else 0, in both directions.

    With the retrieval adapter where the model has one, as passages are found.
    """
    task = "retrieval" if has_task(model, "retrieval") else None
    english, korean = (encode(model, list(side), suite.batch_size, task) for side in zip(*suite.bitext, strict=True))
    return {"ko_en": retrieval_accuracy(korean, english), "en_ko": retrieval_accuracy(english, korean)}


def _probes(model: SentenceTransformer, suite: Suite) -> dict[str, Interval]:
    """Share of the minimal sets in which the meaning-keeping sentence lies nearer than the meaning-changing one."""
    close = cosines(model, [(probe.base, probe.should_stay_close) for probe in suite.probes], suite.batch_size)
    away = cosines(model, [(probe.base, probe.should_move_away) for probe in suite.probes], suite.batch_size)
    kept = (close > away).astype(np.float64)
    names = np.array([probe.phenomenon for probe in suite.probes])
    by_name = {name: kept[names == name] for name in dict.fromkeys(names.tolist())}
    shares = {name: bootstrap(np.mean, values, resamples=suite.resamples) for name, values in by_name.items()}
    return {"all": bootstrap(np.mean, kept, resamples=suite.resamples), **shares}


def fertility(model: SentenceTransformer, texts: list[str]) -> float:
    """Tokens per word (split at white space), special tokens not counted."""
    encoded = model.tokenizer(texts, add_special_tokens=False)["input_ids"]
    return sum(map(len, encoded)) / sum(len(text.split()) for text in texts)
