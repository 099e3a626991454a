"""The suite that every stage is measured with: the same pairs, the same intervals, the same sentences."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from koembed.corpus import kopairs
from koembed.corpus.data import load_sts
from koembed.evaluation.metrics import (
    Interval,
    auc,
    bootstrap,
    cosines,
    encode,
    retrieval_accuracy,
    spearman,
)


@dataclass
class Suite:
    """Sentences to measure on; nothing of them was trained or selected on.

    Attributes:
        pairs: labelled pairs (KoPairs test).
        probes: minimal sets by phenomenon.
        bitext: (English, Korean) held-out translations.
        sts: name -> (sentence, sentence, score 0-5).
    """

    pairs: tuple[kopairs.Pair, ...]
    probes: tuple[kopairs.Probe, ...]
    bitext: list[tuple[str, str]]
    sts: dict[str, list[tuple[str, str, float]]] = field(default_factory=dict)
    resamples: int = 1_000
    batch_size: int = 64


def load_suite(sts_files: list[Path], bitext: list[tuple[str, str]], resamples: int, batch_size: int) -> Suite:
    """KoPairs' test split and probes, the given translations, and every STS file under its own name.

    Raises:
        InputError: an STS file is missing or is none.
    """
    sts = {path.name.split(".")[0]: load_sts(str(path)) for path in sts_files}
    return Suite(kopairs.pairs("test"), kopairs.probes(), bitext, sts, resamples, batch_size)


def measure(model: SentenceTransformer, suite: Suite) -> dict[str, Any]:
    """Every metric of the suite as ``{"value", "low", "high"}``, and the pairs' cosines for plots."""
    results = {**_labelled(model, suite), **_graded(model, suite), **_retrieval(model, suite)}
    results["probes"] = {name: asdict(share) for name, share in _probes(model, suite).items()}
    results["tokens_per_word"] = fertility(model, [pair.sentence1 for pair in suite.pairs])
    return results


def _labelled(model: SentenceTransformer, suite: Suite) -> dict[str, Any]:
    of_kind: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for pair in suite.pairs:
        of_kind[pair.kind].append((pair.sentence1, pair.sentence2))
    similar, hard, plain = (cosines(model, of_kind[kind], suite.batch_size) for kind in ("similar", "hard", "plain"))
    different = np.concatenate([hard, plain])
    metrics = {
        "similar": bootstrap(np.mean, similar, resamples=suite.resamples),
        "different": bootstrap(np.mean, different, resamples=suite.resamples),
        "discrimination": bootstrap(_gap, similar, different, resamples=suite.resamples),
        "auc": bootstrap(auc, similar, different, resamples=suite.resamples),
        "auc_hard": bootstrap(auc, similar, hard, resamples=suite.resamples),
        "auc_plain": bootstrap(auc, similar, plain, resamples=suite.resamples),
    }
    cosines_by_kind = {"similar": similar.tolist(), "hard": hard.tolist(), "plain": plain.tolist()}
    return {**{name: asdict(metric) for name, metric in metrics.items()}, "cosines": cosines_by_kind}


def _gap(similar: np.ndarray, different: np.ndarray) -> float:
    return float(similar.mean() - different.mean())


def _graded(model: SentenceTransformer, suite: Suite) -> dict[str, Any]:
    graded = [(pair.sentence1, pair.sentence2, pair.score or 0.0) for pair in suite.pairs if pair.kind == "graded"]
    results = {"spearman": asdict(sts_spearman(model, graded, suite))}
    results["sts"] = {name: asdict(sts_spearman(model, rows, suite)) for name, rows in suite.sts.items()}
    return results


def sts_spearman(model: SentenceTransformer, rows: list[tuple[str, str, float]], suite: Suite) -> Interval:
    """Spearman between the cosines and the scores of graded pairs."""
    predicted = cosines(model, [(first, second) for first, second, _ in rows], suite.batch_size)
    table = np.column_stack([predicted, [score for *_, score in rows]])
    return bootstrap(lambda rows: spearman(rows[:, 0], rows[:, 1]), table, resamples=suite.resamples)


def _retrieval(model: SentenceTransformer, suite: Suite) -> dict[str, Any]:
    english = encode(model, [english for english, _ in suite.bitext], suite.batch_size)
    korean = encode(model, [korean for _, korean in suite.bitext], suite.batch_size)
    directions = {"ko_en": (korean, english), "en_ko": (english, korean)}
    return {
        name: asdict(bootstrap(np.mean, retrieval_accuracy(*sides), resamples=suite.resamples))
        for name, sides in directions.items()
    }


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
