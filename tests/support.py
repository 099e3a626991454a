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
from koembed.training.objectives import Context, Objective, build

TRIPLETS = [(KOREAN[i], KOREAN[(i + 1) % 6], KOREAN[(i + 2) % 6]) for i in range(6)]
SCORED = [(KOREAN[i], KOREAN[(i + 1) % 6], i / 5) for i in range(6)]
PASSAGES = [(text.split()[0], f"{text} {text}") for text in KOREAN]
LONG = [f"{text} {KOREAN[0]}" for text in KOREAN]
CORPUS = Corpus(texts=LONG, bitext=PAIRS, triplets=TRIPLETS, scored=SCORED, passages=PASSAGES)


def context(model: SentenceTransformer, **changes) -> Context:
    """The model as its own teacher."""
    settings = {
        "model": model,
        "teach": lambda texts: encode(model, texts)[:, ::-1].copy(),
        "teachers": [lambda texts: encode(model, texts)],
        "settings": Training(),
        "rng": random.Random(0),
    }
    return Context(**{**settings, **changes})


def built(name: str, model: SentenceTransformer, corpus: Corpus = CORPUS, **changes) -> Objective:
    """An objective of all that the corpus has for it, six examples of everything."""
    return build(name, context(model, **changes), corpus, examples=6)


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
