"""The evaluation of all stages: ``koembed evaluate`` with this script's arguments."""

import sys

from koembed.cli import main

main(["evaluate", *sys.argv[1:]])
