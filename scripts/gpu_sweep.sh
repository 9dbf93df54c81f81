#!/usr/bin/env bash
# Many small runs on one large GPU: a scheduler and workers here, which share the GPU by NVIDIA's MPS where it is there.
#
#   scripts/gpu_sweep.sh SECONDS WORKERS sweep-arguments...
#   scripts/gpu_sweep.sh 3600 15 --profile real --tuning
#
# PYTHON names the interpreter (default: python3). The sweep is stopped after SECONDS, and packs what was made; the same
# command goes on from there. Without git, TRPTS_COMMIT says which commit the code was copied from.
set -euo pipefail
seconds=$1 workers=$2
shift 2
python=${PYTHON:-python3}
here=$(mktemp -d)
export OMP_NUM_THREADS=1 MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=33554432
export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$PWD:$here

# The laboratory's commands and tasks are found by its entry points, which an installation would bring.
"$python" - "$here/trpts_lab-0.dist-info" <<'ENTRIES'
import pathlib, sys, tomllib
folder = pathlib.Path(sys.argv[1])
groups = tomllib.loads(pathlib.Path("trpts_lab/pyproject.toml").read_text())["project"]["entry-points"]
folder.mkdir()
(folder / "METADATA").write_text("Metadata-Version: 2.1\nName: trpts_lab\nVersion: 0\n")
lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in found.items()) for group, found in groups.items()]
(folder / "entry_points.txt").write_text("\n".join(lines))
ENTRIES

if command -v nvidia-cuda-mps-control >/dev/null; then
  export CUDA_MPS_PIPE_DIRECTORY=$here/mps CUDA_MPS_LOG_DIRECTORY=$here/log
  mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
  nvidia-cuda-mps-control -d
fi

finish() {
  kill "${jobs[@]}" 2>/dev/null || true
  if [ -n "${CUDA_MPS_PIPE_DIRECTORY:-}" ]; then echo quit | nvidia-cuda-mps-control || true; fi
  rm -rf "$here"
}
jobs=()
trap finish EXIT

"$python" -m distributed.cli.dask_scheduler --host 127.0.0.1 --port 0 --no-dashboard \
  --scheduler-file "$here/scheduler.json" >"$here/scheduler.log" 2>&1 &
jobs+=($!)
"$python" -m distributed.cli.dask_worker --scheduler-file "$here/scheduler.json" --nworkers "$workers" --nthreads 1 \
  --memory-limit 0 --no-dashboard >"$here/workers.log" 2>&1 &
jobs+=($!)
until [ -s "$here/scheduler.json" ]; do sleep 0.2; done
address=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' "$here/scheduler.json")
until "$python" - "$address" "$workers" <<'WAIT'; do sleep 1; done
import sys
from distributed import Client
with Client(sys.argv[1], timeout=10) as client:
    sys.exit(len(client.scheduler_info(n_workers=-1)["workers"]) < int(sys.argv[2]))
WAIT
timeout -s TERM "$seconds" "$python" -m trpts.cli sweep --scheduler "$address" "$@"
