#!/usr/bin/env bash
# Before the first `docker compose up`: a certificate for the page, and a person who may sign in to it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
mkdir -p certificates
if [ ! -e certificates/page.pem ]; then
    openssl req -x509 -newkey rsa:3072 -nodes -days 365 -subj "/CN=localhost" \
        -addext "subjectAltName=DNS:localhost" -keyout certificates/page.key -out certificates/page.pem
    chmod 644 certificates/page.pem
    chown 10001:10001 certificates/page.key 2>/dev/null || chmod 644 certificates/page.key
fi
read -rp "Name of the first administrator: " name
docker compose -f ../compose.yaml run --rm node migrate
docker compose -f ../compose.yaml run --rm -it node user add "$name" --role admin
