"""Training objectives, one a file: each turns the corpus into examples and names the loss that learns from them."""

from koembed.training.objectives.alignment import alignment
from koembed.training.objectives.base import Context, Objective
from koembed.training.objectives.cosent import cosent
from koembed.training.objectives.cosine import cosine
from koembed.training.objectives.distillation import distillation
from koembed.training.objectives.infonce import infonce
from koembed.training.objectives.simcse import simcse
from koembed.training.objectives.span import span
from koembed.training.objectives.translation import translation
from koembed.training.objectives.triplet import triplet

OBJECTIVES = {
    objective.__name__: objective
    for objective in (simcse, alignment, translation, distillation, span, infonce, cosine, cosent, triplet)
}

__all__ = ["OBJECTIVES", "Context", "Objective"]
