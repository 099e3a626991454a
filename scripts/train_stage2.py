"""Stage 2: ``koembed train stage2`` with this script's arguments."""

import sys

from koembed.cli import main

main(["train", "stage2", *sys.argv[1:]])
