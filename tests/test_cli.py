"""What the command line sets for its process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

REUSE = """
import resource
import torch
from koembed.cli import keep_freed_memory

keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.empty(2**24).zero_()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep freed memory")
def test_freed_buffers_are_used_again():
    """64 MB are 16,384 pages. The first few goes take new ones: an aligned block fits no hole of its own size."""
    found = subprocess.run([sys.executable, "-c", REUSE], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 20 * 16_384
