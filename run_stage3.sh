#!/usr/bin/env bash
# Stage 3, hierarchical adapters: [NUM_GPUS=n] [CONFIG=file] ./run_stage3.sh [--config FILE] [--fresh] [key.path=value ...]
exec "$(dirname "$0")/scripts/launch.sh" scripts/train_stage3.py "$@"
