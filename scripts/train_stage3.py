"""Stage 3: ``koembed train stage3`` with this script's arguments."""

import sys

from koembed.cli import main

main(["train", "stage3", *sys.argv[1:]])
