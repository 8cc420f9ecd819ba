#!/usr/bin/env bash
# Everything that a machine without internet needs to run the node, in one archive:
#   bash deploy/bundle.sh [mrsi-node-bundle.tar.gz]
# Made on a machine of the same kind (architecture, Python). There: tar xzf …; sudo bash mrsi-node/install.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
require_python
archive=$(realpath -m "${1:-mrsi-node-bundle.tar.gz}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
set_up_niivue
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
into=$work/mrsi-node
mkdir -p "$into/wheels" "$into/systemd"
pip=("${PYTHON:-python3}" -m pip --disable-pip-version-check --quiet)
echo "fetching wheels (torch is large: minutes)"
"${pip[@]}" wheel --wheel-dir "$into/wheels" "torch==2.13.0"
"${pip[@]}" wheel --wheel-dir "$into/wheels" --find-links "$into/wheels" -c deploy/constraints.txt .
cp config/node.toml deploy/alerts.rules.yml deploy/docs/OPERATION.md deploy/install.sh LICENSE "$into"
cp deploy/systemd/*.service "$into/systemd"
(cd "$into" && sha256sum wheels/* >SHA256SUMS)
tar czf "$archive" -C "$work" mrsi-node
echo "$archive: $(du -h "$archive" | cut -f1), sha256 $(sha256sum "$archive" | cut -d' ' -f1)"
