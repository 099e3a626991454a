#!/usr/bin/env bash
# Stage 2, bottleneck adapters: [NUM_GPUS=n] [CONFIG=file] ./run_stage2.sh [--config FILE] [--fresh] [key.path=value ...]
exec "$(dirname "$0")/scripts/launch.sh" scripts/train_stage2.py "$@"
