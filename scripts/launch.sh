#!/usr/bin/env bash
# launch.sh SCRIPT [ARGUMENTS]: the script under torchrun when NUM_GPUS > 1, under plain python otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -x .venv/bin/python ]; then PATH="$PWD/.venv/bin:$PATH"; fi
script=$1; shift
case " $* " in *" --config"*) ;; *) set -- --config "${CONFIG:-configs/training_config.yaml}" "$@" ;; esac
if [ "${NUM_GPUS:-1}" -gt 1 ]; then
  exec torchrun --standalone --nproc_per_node="$NUM_GPUS" "$script" "$@"
fi
exec python "$script" "$@"
