#!/usr/bin/env bash
# Stage 0, expand the vocabulary: [NUM_GPUS=n] [CONFIG=file] ./run_stage0.sh [--config FILE] [--fresh] [key.path=value ...]
exec "$(dirname "$0")/scripts/launch.sh" scripts/expand_vocabulary.py "$@"
