#!/usr/bin/env bash
# All stages that are not done yet (with --fresh all of them, the old ones moved aside), then the evaluation. To train a
# single stage again: move its checkpoint away and run this.
set -euo pipefail
here=$(dirname "$0")
for stage in 0 1 2 3; do
  "$here/run_stage$stage.sh" "$@"
done
NUM_GPUS=1 exec "$here/scripts/launch.sh" scripts/evaluate_models.py "$@"
