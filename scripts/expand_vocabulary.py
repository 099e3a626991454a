"""Stage 0: ``koembed expand`` with this script's arguments."""

import sys

from koembed.cli import main

main(["expand", *sys.argv[1:]])
