"""Buffers are reused within, and given back after: counted in page faults, which do not vary as times do."""

import json
import platform
import subprocess
import sys

import pytest

BUFFER = 2**14  # pages of 4 KB in 64 MB
FEWEST = 32  # pages of 2 MB in it, where the kernel gives those
PROGRAM = """
import json, resource, torch
from koembed.memory import freed_memory_kept

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(open("/proc/self/statm").read().split()[1])

def batches():
    found = []
    for _ in range(20):
        before = faults()
        torch.ones(2**24)
        found.append(faults() - before)
    return min(found)

outside, before = batches(), resident()
with freed_memory_kept():
    inside = batches()
print(json.dumps({"outside": outside, "inside": inside, "left": resident() - before}))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone maps large buffers anew")
def test_buffers_are_reused_within_and_given_back_after():
    printed = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    found = json.loads(printed)
    assert found["outside"] >= FEWEST, found
    assert found["inside"] < found["outside"] / 10, found
    assert found["left"] < BUFFER, found
