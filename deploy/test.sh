#!/usr/bin/env bash
# Set up what is missing, then run every check: format, lint, types, layers, tests with the real peers.
# Arguments go to pytest: bash deploy/test.sh tests/unit. What takes minutes is run on demand: -m long, tests/viewers.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
set_up_peers
set_up demo,test
set_up_viewers
set_up_niivue
set_up_page
case " $* " in *tests/viewers*) set_up_browser ;; esac
export PATH="$PWD/.venv/bin:$PATH" TCP_NODELAY=1
ruff format --check .
ruff check .
mypy
lint-imports
if [ $# -gt 0 ]; then
    exec pytest "$@"
fi
bash deploy/audit.sh
# Files side by side, those first that wait longest, for their peers; what is timed runs by itself.
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 pytest -m "not long" -n 3 --dist loadfile --no-loadscope-reorder --ignore tests/benchmarks --durations 25
exec pytest tests/benchmarks
