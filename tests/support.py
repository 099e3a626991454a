"""What several tests build from."""

import random
from collections.abc import Callable

import pytest
from sentence_transformers import SentenceTransformer

from conftest import KOREAN, PAIRS
from koembed.config import Training
from koembed.corpus.data import Corpus
from koembed.metrics import encode
from koembed.training.engine import ProgressBar
from koembed.training.objectives import Context

TRIPLETS = [(KOREAN[i], KOREAN[(i + 1) % 6], KOREAN[(i + 2) % 6]) for i in range(6)]
SCORED = [(KOREAN[i], KOREAN[(i + 1) % 6], i / 5) for i in range(6)]
PASSAGES = [(text.split()[0], f"{text} {text}") for text in KOREAN]
LONG = [f"{text} {KOREAN[0]}" for text in KOREAN]


def context(model: SentenceTransformer, **changes) -> Context:
    """Six examples of everything, the model as its own teacher."""
    settings = {
        "model": model,
        "corpus": Corpus(texts=LONG, bitext=PAIRS, triplets=TRIPLETS, scored=SCORED, passages=PASSAGES),
        "teach": lambda texts: encode(model, texts)[:, ::-1].copy(),
        "teachers": [lambda texts: encode(model, texts)],
        "settings": Training(),
        "examples": 6,
        "rng": random.Random(0),
    }
    return Context(**{**settings, **changes})


class Killed(BaseException):
    """What nothing catches, as SIGKILL."""


def killed_at(step: int, training: Callable[[], object]) -> None:
    """Run a training that dies when it has done a step."""

    def die(bar: ProgressBar, args, state, control, **kwargs) -> None:
        if state.global_step == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(ProgressBar, "on_step_end", die)
        training()


def begun_at(training: Callable[[], object]) -> int:
    """Run a training; the steps that were behind it when it began."""
    begun: list[int] = []
    whole = ProgressBar.on_train_begin

    def note(bar: ProgressBar, args, state, control, **kwargs) -> None:
        begun.append(state.global_step)
        whole(bar, args, state, control, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProgressBar, "on_train_begin", note)
        training()
    (steps,) = begun
    return steps
