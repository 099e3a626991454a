"""Training objectives, one a file: each turns the corpus into examples and names the loss that learns from them.

A new one is a file here, a line in OBJECTIVES and its name in ``config.ObjectiveName``, which configs are checked by.
"""

from koembed.training.objectives.alignment import alignment
from koembed.training.objectives.angle import angle
from koembed.training.objectives.base import Context, Objective
from koembed.training.objectives.cosent import cosent
from koembed.training.objectives.cosine import cosine
from koembed.training.objectives.distillation import distillation
from koembed.training.objectives.healing import healing
from koembed.training.objectives.infonce import infonce
from koembed.training.objectives.matryoshka import matryoshka
from koembed.training.objectives.passages import passages
from koembed.training.objectives.retention import retention
from koembed.training.objectives.simcse import simcse
from koembed.training.objectives.span import span
from koembed.training.objectives.translation import translation
from koembed.training.objectives.triplet import triplet

OBJECTIVES = {
    objective.__name__: objective
    for objective in (
        simcse,
        span,
        healing,
        retention,
        alignment,
        translation,
        distillation,
        infonce,
        triplet,
        cosine,
        cosent,
        angle,
        passages,
    )
}

__all__ = ["OBJECTIVES", "Context", "Objective", "build"]


def build(name: str, context: Context) -> Objective:
    """The objective of this name, at smaller dimensions too where ``context.settings.matryoshka`` has some.

    Raises:
        InputError: the corpus lacks what it needs.
    """
    return matryoshka(context, OBJECTIVES[name](context))
