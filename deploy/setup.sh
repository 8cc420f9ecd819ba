#!/usr/bin/env bash
# Sourced by demo.sh and test.sh: a virtual environment in .venv with the pinned dependencies.
# Usage: set_up EXTRAS, for instance set_up demo,test

require_python() {
    local python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || {
        echo "Python 3.11 or 3.12 is needed; $("$python" --version) was found. Set PYTHON to name another." >&2
        exit 2
    }
}

set_up() {
    local extras=$1 python=${PYTHON:-python3} stamp
    cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
    require_python
    stamp="$extras $(sha256sum pyproject.toml deploy/constraints.txt | sha256sum | cut -c1-16)"
    [ "$(cat .venv/installed-"$extras" 2>/dev/null)" = "$stamp" ] && return
    "$python" -m venv .venv || {
        echo "Python's venv module is needed: apt-get install python3-venv" >&2
        exit 2
    }
    echo "installing pinned dependencies into .venv (torch is large: minutes)"
    .venv/bin/pip install --quiet --disable-pip-version-check "torch==2.13.0" &&
        .venv/bin/pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e ".[$extras]" ||
        exit 1
    echo "$stamp" >.venv/installed-"$extras"
}

# Install Debian packages if we may and they are missing. What could not be installed is named by the tests.
set_up_peers() {
    command -v dcmsend >/dev/null && [ -x /usr/sbin/Orthanc ] && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "Orthanc, DCMTK or PostgreSQL is missing and cannot be installed without root: tests that need them are skipped"
        return
    fi
    apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends orthanc orthanc-dicomweb dcmtk postgresql rsyslog-gnutls >/dev/null ||
        echo "Orthanc, DCMTK or PostgreSQL could not be installed: tests that need them are skipped"
}

# OHIF's reader library (tests/ohif), if there is npm. What could not be installed is named by the tests.
set_up_viewers() {
    local lock=tests/ohif/package-lock.json there=tests/ohif/node_modules/.package-lock.json
    if ! command -v npm >/dev/null; then
        echo "npm is missing (apt-get install nodejs npm): tests with OHIF's readers are skipped"
        return
    fi
    [ "$there" -nt "$lock" ] && return
    npm ci --prefix tests/ohif --silent || echo "OHIF's readers could not be installed: tests that need them are skipped"
}

# The page's viewer (NiiVue, BSD-2-Clause) among the files that the page serves: no internet at run time.
# Without it the page shows planes drawn by the node.
set_up_niivue() {
    local there=dicom_node/web/static/niivue.js
    [ "$there" -nt deploy/page/package-lock.json ] && return
    if ! command -v npm >/dev/null; then
        echo "npm is missing (apt-get install nodejs npm): the page shows pictures instead of its viewer"
        return
    fi
    npm ci --prefix deploy/page --silent &&
        sed '/^\/\/# sourceMappingURL=/d' deploy/page/node_modules/@niivue/niivue/dist/index.js >"$there.new" &&
        mv "$there.new" "$there" ||
        echo "the page's viewer could not be installed: the page shows pictures instead"
}

# A browser, and what drives it over the node's page (tests/page). What is missing is named by the tests.
set_up_page() {
    local lock=tests/page/package-lock.json there=tests/page/node_modules/.package-lock.json
    if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null ||
            echo "Chromium could not be installed: tests of the page in a browser are skipped"
    fi
    if ! command -v npm >/dev/null; then
        echo "npm is missing (apt-get install nodejs npm): tests of the page in a browser are skipped"
        return
    fi
    [ "$there" -nt "$lock" ] && return
    npm ci --prefix tests/page --silent || echo "Playwright could not be installed: tests of the page in a browser are skipped"
}

# OHIF itself and a browser, for tests/viewers alone: 50 MB to fetch, 204 MB unpacked.
set_up_browser() {
    local version=3.13.2 app=tests/ohif/app
    local sum=b189d3963bfc58e9394a9db8c7be75d07beb029ec211dbb126d47b62969dd3f1
    if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
    fi
    [ -f "$app/package/dist/index.html" ] && return
    mkdir -p "$app"
    npm pack "@ohif/app@$version" --pack-destination "$app" --silent >/dev/null &&
        echo "$sum  $app/ohif-app-$version.tgz" | sha256sum --check --quiet &&
        tar xzf "$app/ohif-app-$version.tgz" -C "$app" && rm "$app/ohif-app-$version.tgz" ||
        echo "OHIF could not be installed: tests/viewers is skipped"
}
