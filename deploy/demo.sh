#!/usr/bin/env bash
# Set up, then the main job on a simulated study: everything lands in results/ (or the folder named).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
set_up demo
set_up_niivue
exec .venv/bin/mrsi-node demo "${1:-results}"
