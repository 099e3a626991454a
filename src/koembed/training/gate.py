"""After each stage: how much of it to keep, decided on the select split, so that no stage loses on it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from koembed.corpus import kopairs
from koembed.errors import InputError
from koembed.metrics import auc, encode, passage_ndcg, reciprocal_ranks, spearman
from koembed.metrics import cosines as pair_cosines
from koembed.models import in_bf16

Purpose = Literal["both", "similarity", "retrieval"]

MOST_TRANSLATIONS = 2_000  # that are judged by: similarities of all with all take memory by the square


@dataclass(frozen=True)
class Scores:
    """A model on the select split.

    Attributes:
        spearman: of graded pairs, the mean over the sets of them.
        auc: of similar against different pairs.
        discrimination: mean cosine of similar less that of different pairs.
        retrieval: mean reciprocal rank of sentences' paraphrases and of their translations, both ways, half each; for
            the purpose of retrieval the nDCG@10 of the held-out passages in place of the paraphrases, if there are any.
        english: correlation of English similarities with the untouched base's, over pairs of all degrees.
    """

    spearman: float
    auc: float
    discrimination: float
    retrieval: float
    english: float

    def quality(self, purpose: Purpose) -> float:
        """What the gate maximises, 0 to 1: the mean of what the purpose is measured by."""
        similarity = (self.spearman, self.auc)
        measured = {"both": (*similarity, self.retrieval), "similarity": similarity, "retrieval": (self.retrieval,)}
        return float(np.mean(measured[purpose]))


class Judge:
    """Scores models on what is held out to select: KoPairs' select split, translations, the user's pairs and passages.

    Args:
        base: the untouched base, whose English is to be kept.
        bitext: (English, Korean); of more than 2,000 a sample is taken.
        scored: sets of (sentence, sentence, score), each ranked for itself, besides KoPairs: graders differ in scale.
        passages: (query, passage), for retrieval.

    Raises:
        InputError: the translations are too few to correlate anything.
    """

    def __init__(
        self,
        base: SentenceTransformer,
        bitext: list[tuple[str, str]],
        scored: list[list[tuple[str, str, float]]],
        passages: list[tuple[str, str]],
    ) -> None:
        if len(bitext) < 3:
            raise InputError(f"data.bitext_select: {len(bitext)} held-out translations tell nothing; give hundreds")
        self.pairs = kopairs.pairs("select")
        self.scored = scored
        self.passages = passages
        if len(bitext) > MOST_TRANSLATIONS:
            bitext = random.Random(0).sample(bitext, MOST_TRANSLATIONS)
        self.english = [english for english, _ in bitext]
        self.korean = [korean for _, korean in bitext]
        with in_bf16(base):
            vectors = encode(base, self.english)
        similarities = vectors @ vectors.T
        self.compared = spread_pairs(similarities)
        self.base_english = similarities[self.compared]

    def score(self, model: SentenceTransformer, purpose: Purpose = "both") -> Scores:
        """Encode the whole select split once and score it; the passages, which are long, for retrieval only.

        In bf16 where that is faster, every strength alike: 0.42 of float32's time, and off by less than the split
        can tell apart (MiniLM: Spearman by 3e-4, AUC and discrimination by 4e-5).
        """
        with in_bf16(model):
            return self._score(model, purpose)

    def _score(self, model: SentenceTransformer, purpose: Purpose) -> Scores:
        first = encode(model, [pair.sentence1 for pair in self.pairs])
        second = encode(model, [pair.sentence2 for pair in self.pairs])
        english, korean = encode(model, self.english), encode(model, self.korean)
        cosines = np.einsum("ij,ij->i", first, second)
        kind = np.array([pair.kind for pair in self.pairs])
        similar, graded = kind == "similar", kind == "graded"
        different = ~(similar | graded)
        scores = np.array([pair.score or 0.0 for pair in self.pairs])
        ranked = [spearman(cosines[graded], scores[graded])]
        for rows in self.scored:
            gold = np.array([score for *_, score in rows])
            ranked.append(spearman(pair_cosines(model, [row[:2] for row in rows]), gold))
        if purpose == "retrieval" and self.passages:
            found = passage_ndcg(model, self.passages)
        else:
            found = found_both_ways(first @ second.T)[similar]
        translations = found_both_ways(korean @ english.T)
        return Scores(
            spearman=float(np.mean(ranked)),
            auc=auc(cosines[similar], cosines[different]),
            discrimination=float(cosines[similar].mean() - cosines[different].mean()),
            retrieval=float(found.mean() + translations.mean()) / 2,
            english=spearman((english @ english.T)[self.compared], self.base_english),
        )


def found_both_ways(similarities: np.ndarray) -> np.ndarray:
    """Reciprocal rank of each text's own partner among all, mean of both directions, [n].

    A graded measure of both directions tells strengths apart that the share of nearest partners leaves to chance.
    """
    return (reciprocal_ranks(similarities) + reciprocal_ranks(similarities.T)) / 2


def spread_pairs(
    similarities: np.ndarray, bands: int = 20, most: int = 500, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of texts at all degrees of similarity alike: at most ``most`` of each of ``bands`` equally wide bands.

    Of all pairs of texts nearly all are unrelated, and the order among those means nothing: to an E5 that ranks
    English STS as its base does (1.001 of it), the base's similarities of all pairs correlate at 0.70, of these at
    0.93.

    Args:
        similarities: cosines of n texts with each other, [n, n].

    Returns:
        Rows and columns of the pairs, each once.
    """
    first, second = np.triu_indices(len(similarities), 1)
    values = similarities[first, second]
    band = np.digitize(values, np.linspace(values.min(), values.max(), bands + 1)[1:-1])
    shuffled = np.random.default_rng(seed).permutation(len(values))
    kept = np.concatenate([shuffled[band[shuffled] == number][:most] for number in range(bands)])
    return first[kept], second[kept]


@dataclass(frozen=True)
class Verdict:
    """The strength that was chosen, the scores at every strength that was tried, and why some were refused."""

    alpha: float
    purpose: Purpose
    curve: dict[float, Scores]
    refused: dict[float, str | None]

    def as_dict(self) -> dict[str, Any]:
        """For stage.json."""
        curve = [
            {"alpha": alpha, **asdict(scores), "refused": self.refused[alpha]} for alpha, scores in self.curve.items()
        ]
        return {"alpha": self.alpha, "purpose": self.purpose, "curve": curve}


def choose(score_at: Callable[[float], Scores], steps: int, english_floor: float, purpose: Purpose = "both") -> Verdict:
    """The best of ``steps + 1`` strengths from 0 (the stage before) to 1 (all of the new one).

    Of the strengths that are not refused, the one of the highest quality wins, of equals the smallest.
    """
    curve = {step / steps: score_at(step / steps) for step in range(steps + 1)}
    refused = {alpha: refusal(scores, curve[0.0], english_floor, purpose) for alpha, scores in curve.items()}
    admitted = [alpha for alpha in curve if refused[alpha] is None]
    best = max(admitted, key=lambda alpha: (curve[alpha].quality(purpose), -alpha))
    return Verdict(best, purpose, curve, refused)


def refusal(scores: Scores, before: Scores, english_floor: float, purpose: Purpose) -> str | None:
    """Why a strength is not admitted, in words, or None where it is; the stage before never breaks a rule.

    English similarities must keep ``english_floor`` of the base's, or what the stage before kept if that is less. But
    for retrieval, discrimination and Spearman must not fall below the stage before either.
    """
    floor = min(english_floor, before.english)
    kept = {f"English fell below {floor:.2f}": scores.english >= floor}
    if purpose != "retrieval":
        kept["discrimination fell"] = scores.discrimination >= before.discrimination
        kept["Spearman fell"] = scores.spearman >= before.spearman
    return " and ".join(loss for loss, is_kept in kept.items() if not is_kept) or None


class Interpolation:
    """Weights between those a model had and those it has: ``before + alpha (after - before)``, exact at 0 and 1.

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT).
    """

    def __init__(self, model: SentenceTransformer, before: dict[str, Tensor]) -> None:
        self.model = model
        self.before = before
        self.after = snapshot(model)

    def set(self, alpha: float) -> None:
        """Load the weights of strength ``alpha`` into the model."""
        ends = {0.0: self.before, 1.0: self.after}
        if alpha in ends:
            self.model.load_state_dict(ends[alpha])
            return
        mixed = {
            name: torch.lerp(value, self.after[name], alpha) if value.is_floating_point() else value
            for name, value in self.before.items()
        }
        self.model.load_state_dict(mixed)


def snapshot(model: SentenceTransformer) -> dict[str, Tensor]:
    """A copy of all weights."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
