#!/usr/bin/env bash
# Install the node from an unpacked bundle, or bring an installed one to the bundle's version. As root:
#   bash install.sh [PREFIX]        PREFIX: default /opt/mrsi-node
# What was there before stays beside it, as PREFIX.before, to roll back to.
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
prefix=${1:-/opt/mrsi-node}
python=${PYTHON:-python3}
(cd "$here" && sha256sum --check --quiet SHA256SUMS)
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || {
    echo "Python 3.11 or 3.12 is needed; set PYTHON to name another" >&2
    exit 2
}
# A virtual environment knows its own path: it is made where it stays, once the old one is out of the way.
rm -rf "$prefix.before"
[ ! -e "$prefix" ] || mv "$prefix" "$prefix.before"
back() {
    rm -rf "$prefix"
    [ ! -e "$prefix.before" ] || mv "$prefix.before" "$prefix"
}
trap back ERR
"$python" -m venv "$prefix"
"$prefix/bin/pip" install --quiet --disable-pip-version-check --no-index --find-links "$here/wheels" mrsi-sr-node
mkdir -p "$prefix/share"
cp "$here"/{OPERATION.md,alerts.rules.yml,node.toml} "$prefix/share"
"$prefix/bin/mrsi-node" --help >/dev/null
trap - ERR
if [ "$prefix" = /opt/mrsi-node ] && [ "$(id -u)" = 0 ]; then
    id mrsi >/dev/null 2>&1 || useradd --system --home-dir /var/lib/mrsi-node --shell /usr/sbin/nologin mrsi
    mkdir -p /etc/mrsi-node
    [ -e /etc/mrsi-node/node.toml ] || cp "$here/node.toml" /etc/mrsi-node/node.toml
    cp "$here"/systemd/*.service /etc/systemd/system/
    ! command -v systemctl >/dev/null || systemctl daemon-reload || true
fi
echo "installed: $prefix/bin/mrsi-node. Edit /etc/mrsi-node/node.toml, then: systemctl enable --now mrsi-node"
