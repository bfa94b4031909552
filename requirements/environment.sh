#!/bin/sh
# Makes the virtual environment $1 with the pinned packages in it, and this project on top. Done again only when the
# pins change. Needs Python 3.11 or newer with its venv module, and a package index.
set -eu
venv=$1
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "bohdi: no $python: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "bohdi: $("$python" --version) is too old: install Python 3.11 or newer, or name one: make PYTHON=..." >&2
    exit 1
fi
if ! "$python" -m venv --clear "$venv" >/dev/null 2>&1; then
    echo "bohdi: $python has no venv module: install it (Debian: apt-get install python3-venv)" >&2
    exit 1
fi
# uv brings its own list of certificates; where the system has one it is the right one, behind a proxy the only one.
if "$python" -c 'import ssl, sys; sys.exit(not any(ssl.get_default_verify_paths()[:2]))'; then
    export UV_SYSTEM_CERTS=1
fi
echo "making the environment in $venv (about a minute, 5 GB: PyTorch brings its CUDA libraries)"
"$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
"$venv/bin/uv" pip install -q --python "$venv/bin/python" --require-hashes -r requirements/dev.txt
"$venv/bin/uv" pip install -q --python "$venv/bin/python" --no-deps --no-build-isolation -e .
touch "$venv/ready"
