#!/bin/sh
# Renews the pins of the services' images: of what each needs, the versions that dev.txt has. Needs the environment $1.
set -eu
cd "$(dirname "$0")/.."
venv=$1
if "$venv/bin/python" -c 'import ssl, sys; sys.exit(not any(ssl.get_default_verify_paths()[:2]))'; then
    export UV_SYSTEM_CERTS=1
fi
pins=$(mktemp)
trap 'rm -f "$pins"' EXIT
grep -E '^[A-Za-z0-9._-]+==' requirements/dev.txt | sed 's/ *\\$//' >"$pins"
lock() { # OUTPUT, then what uv is to resolve
    output=$1
    shift
    "$venv/bin/uv" pip compile -q --universal --generate-hashes --no-annotate --no-header --python-version 3.11 \
        --constraint "$pins" "$@" -o "requirements/$output.txt"
}
lock bandit pyproject.toml --extra kafka
lock tree_expansion pyproject.toml --extra kafka --extra http
lock judging pyproject.toml --extra kafka --extra http
lock generation pyproject.toml --extra kafka --extra http --extra gates
lock training pyproject.toml --extra kafka --extra http --extra gates --extra local --extra kubernetes
lock build requirements/build.in
