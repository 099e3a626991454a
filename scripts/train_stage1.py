"""Stage 1: ``koembed train stage1`` with this script's arguments."""

import sys

from koembed.cli import main

main(["train", "stage1", *sys.argv[1:]])
