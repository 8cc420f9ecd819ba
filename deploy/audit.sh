#!/usr/bin/env bash
# What is installed, and what of it is known to be vulnerable: a bill of materials (CycloneDX) and pip-audit's
# findings in build/. Exit code 1 if a vulnerability is known; a service that does not answer is said, and passes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p build
rm -f build/audit.json
.venv/bin/cyclonedx-py environment --no-validate --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom.json .venv/bin/python
.venv/bin/pip-audit --local --progress-spinner off --timeout 10 -f json -o build/audit.json 2>/dev/null || true
.venv/bin/python - build/sbom.json build/audit.json <<'PYTHON'
import json
import sys
from pathlib import Path

components = json.loads(Path(sys.argv[1]).read_text())["components"]
print(f"bill of materials: {len(components)} packages in {sys.argv[1]}")
found = Path(sys.argv[2])
packages = json.loads(found.read_text())["dependencies"] if found.exists() else []
audited = [p for p in packages if "vulns" in p]
known = [(p["name"], p["version"], v["id"], v["fix_versions"]) for p in audited for v in p["vulns"]]
if not audited:
    print("the service of known vulnerabilities cannot be reached from here: NOTHING was audited")
else:
    print(f"{len(audited)} of {len(packages)} packages audited, {len(known)} known vulnerabilities")
for name, version, which, fixed in known:
    print(f"  {name} {version}: {which}, fixed in {', '.join(fixed) or 'no version yet'}")
sys.exit(bool(known))
PYTHON
