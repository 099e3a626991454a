"""The machine and the versions that a benchmark's figures are of: a part of the JSON line that each prints last."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

# What decides how fast arithmetic goes, of all that Linux lists of a processor.
UNITS = re.compile(r"\b(?:avx2|avx512f|avx512_bf16|avx512_fp16|amx_tile|amx_bf16)\b")


def environment(*packages: str) -> dict[str, Any]:
    """``machine`` and ``versions``; of torch and of the packages that are named."""
    described = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"(?m)^model name\s*: (.*)$", described)
    machine = {
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "units": sorted(set(UNITS.findall(described))),
        "cores": os.cpu_count(),
        "libc": " ".join(platform.libc_ver()),
    }
    versions = {name: version(name) for name in ("torch", *packages)}
    return {"machine": machine, "versions": {"python": platform.python_version(), **versions}}
