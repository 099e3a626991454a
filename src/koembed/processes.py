"""The processes of one run: a single one, or as many as torchrun started."""

from __future__ import annotations

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """Which of how many this one is, and the means to wait for the others.

    Asked without ``cpu``, accelerate takes each process of torchrun's on a machine without GPUs for the only one.
    """
    return PartialState(cpu=not torch.cuda.is_available())
