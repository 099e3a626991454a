"""What teachers see in texts, kept for a training that is killed and continued: a large teacher takes minutes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from koembed.models import Encoder
from koembed.processes import processes
from koembed.storage import whole_file


def taught_once(name: str, teacher: Encoder, texts: list[str], directory: Path) -> NDArray[np.float32]:
    """A teacher's vectors of the texts, float32 [texts, dim], rows of length 1.

    They are kept below ``directory``, a training's own: it continues on what it was taught at first, and all its
    processes have what the first of them was told.

    Raises:
        InputError: nothing can be written there.
    """
    key = hashlib.sha256("\0".join([name, *texts]).encode()).hexdigest()[:12]
    file = directory / f"taught-{key}.safetensors"
    with processes().main_process_first():
        if not file.exists():
            vectors = np.ascontiguousarray(teacher(texts), np.float32)
            with whole_file(file) as partial:
                save_file({"vectors": vectors}, partial)
    return load_file(file)["vectors"]
