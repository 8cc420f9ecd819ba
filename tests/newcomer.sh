#!/usr/bin/env bash
# The newcomer's path, timed: a fresh Debian 12 in a chroot, this repository's HEAD cloned into it, the README's demo,
# and the page asked for the demo's study. On demand, as root, with debootstrap; 4 GB, about ten minutes.
# The folder is one of its own, under TMPDIR, and is removed at the end.
set -euo pipefail
folder=$(realpath "$(mktemp -d)")
chmod 755 "$folder"
here=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
cleanup() {
    for pid in /proc/[0-9]*; do
        [ "$(readlink "$pid/root" 2>/dev/null)" = "$folder" ] && kill "${pid#/proc/}" 2>/dev/null
    done || true
    sleep 2
    umount -l "$folder/proc" "$folder/dev" "$folder/wheels" 2>/dev/null || true
    rm -rf --one-file-system "$folder"
}
trap cleanup EXIT
say() { echo "$(date -u +%T) $1"; }

say "Debian, as it comes"
debootstrap --variant=minbase --include=ca-certificates,git,python3,python3-venv bookworm "$folder" \
    "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >/dev/null
# What a site gives every machine: names, certificates, and where packages lie.
cp /etc/resolv.conf "$folder/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/"
mkdir "$folder/wheels"
[ -d "${PIP_FIND_LINKS:-}" ] && mount --bind "$PIP_FIND_LINKS" "$folder/wheels"
mount -t proc proc "$folder/proc"
mount --rbind /dev "$folder/dev"
mount --make-rslave "$folder/dev"
git clone -q --bare "$here" "$folder/srv/mrsi-sr-node.git"

cat >"$folder/root/path.sh" <<'PATH_OF_A_NEWCOMER'
set -euo pipefail
say() { echo "$(date -u +%T) $1"; }
say "clone"
git clone -q /srv/mrsi-sr-node.git
cd mrsi-sr-node
git log -1 --format='commit %h'
say "bash deploy/demo.sh"
bash deploy/demo.sh >demo.log 2>&1 || { tail -20 demo.log; tail -40 results/node.log; exit 1; }
tail -5 demo.log
page=$(grep -o 'http://127.0.0.1:[0-9]*/' demo.log | tail -1)
say "the page, $page"
.venv/bin/mrsi-node serve --config results/node.toml >serve.log 2>&1 &
python3 - "$page" <<'PYTHON'
import re, sys, time, urllib.request
page, until = sys.argv[1], time.monotonic() + 60
while True:
    try:
        queue = urllib.request.urlopen(page, timeout=10).read().decode()
        break
    except OSError:
        if time.monotonic() > until:
            raise
        time.sleep(0.5)
study = re.search(r'href="/(studies/[0-9a-f-]+)"', queue).group(1)
shown = urllib.request.urlopen(page + study, timeout=30).read().decode()
assert "Viewer and measurements" in shown, "the study's page shows no results"
PYTHON
say "the study is shown"
PATH_OF_A_NEWCOMER

began=$SECONDS
chroot "$folder" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 PIP_FIND_LINKS=/wheels \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt bash -c 'cd && bash path.sh'
say "from clone to page: $((SECONDS - began)) s (goal: 600)"
[ $((SECONDS - began)) -lt 600 ]
