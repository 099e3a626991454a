"""After each stage: how much of it to keep, decided on the select split, so that no stage loses on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from koembed.corpus import kopairs
from koembed.evaluation.metrics import auc, encode, retrieval_accuracy, spearman

Purpose = Literal["similarity", "retrieval"]


@dataclass(frozen=True)
class Scores:
    """A model on the select split.

    Attributes:
        spearman: of graded pairs.
        auc: of similar against different pairs.
        discrimination: mean cosine of similar less that of different pairs.
        retrieval: share of sentences that find their paraphrase, or their translation, first of all.
        english: correlation of English similarities with the untouched base's.
    """

    spearman: float
    auc: float
    discrimination: float
    retrieval: float
    english: float

    def quality(self, purpose: Purpose) -> float:
        """What the gate maximises, 0 to 1."""
        return self.retrieval if purpose == "retrieval" else (self.spearman + self.auc + self.retrieval) / 3


class Judge:
    """Scores models on the select split of KoPairs and of held-out translations."""

    def __init__(self, base: SentenceTransformer, bitext: list[tuple[str, str]]) -> None:
        self.pairs = kopairs.pairs("select")
        self.english = [english for english, _ in bitext]
        self.korean = [korean for _, korean in bitext]
        self.base_english = _similarities(encode(base, self.english))

    def score(self, model: SentenceTransformer, task: str | None = None) -> Scores:
        """Encode the whole select split once and score it; ``task`` selects a task adapter."""
        first = encode(model, [pair.sentence1 for pair in self.pairs], task=task)
        second = encode(model, [pair.sentence2 for pair in self.pairs], task=task)
        english, korean = encode(model, self.english, task=task), encode(model, self.korean, task=task)
        cosines = np.einsum("ij,ij->i", first, second)
        kind = np.array([pair.kind for pair in self.pairs])
        similar, graded = kind == "similar", kind == "graded"
        different = ~(similar | graded)
        scores = np.array([pair.score or 0.0 for pair in self.pairs])
        paraphrase = retrieval_accuracy(first, second)[similar].mean()  # among all second sentences of the split
        return Scores(
            spearman=spearman(cosines[graded], scores[graded]),
            auc=auc(cosines[similar], cosines[different]),
            discrimination=float(cosines[similar].mean() - cosines[different].mean()),
            retrieval=float((paraphrase + retrieval_accuracy(korean, english).mean()) / 2),
            english=spearman(_similarities(english), self.base_english),
        )


def _similarities(vectors: np.ndarray) -> np.ndarray:
    """Cosines of all pairs of rows, [n (n - 1) / 2]."""
    return (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]


@dataclass(frozen=True)
class Verdict:
    """The strength that was chosen, and the scores at every strength that was tried."""

    alpha: float
    purpose: Purpose
    curve: dict[float, Scores]

    def as_dict(self) -> dict[str, Any]:
        """For stage.json."""
        curve = [{"alpha": alpha, **asdict(scores)} for alpha, scores in self.curve.items()]
        return {"alpha": self.alpha, "purpose": self.purpose, "curve": curve}


def choose(
    score_at: Callable[[float], Scores], steps: int, english_floor: float, purpose: Purpose = "similarity"
) -> Verdict:
    """The best of ``steps + 1`` strengths from 0 (the stage before) to 1 (all of the new one).

    A strength is admitted when, on the select split, discrimination and Spearman are not below the stage before and
    English similarities keep at least ``english_floor`` of the base's (or what the stage before kept, if that is
    less). Of those admitted the highest quality wins, of equals the smallest; 0 is always admitted.
    """
    curve = {step / steps: score_at(step / steps) for step in range(steps + 1)}
    before = curve[0.0]
    floor = min(english_floor, before.english)
    admitted = {
        alpha: scores
        for alpha, scores in curve.items()
        if scores.english >= floor and (purpose == "retrieval" or _not_below(scores, before))
    }
    alpha = max(admitted, key=lambda alpha: (admitted[alpha].quality(purpose), -alpha))
    return Verdict(alpha, purpose, curve)


def _not_below(scores: Scores, before: Scores) -> bool:
    return scores.discrimination >= before.discrimination and scores.spearman >= before.spearman


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
