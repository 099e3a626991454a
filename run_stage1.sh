#!/usr/bin/env bash
# Stage 1, SimCSE: [NUM_GPUS=n] [CONFIG=file] ./run_stage1.sh [--config FILE] [--fresh] [key.path=value ...]
exec "$(dirname "$0")/scripts/launch.sh" scripts/train_stage1.py "$@"
