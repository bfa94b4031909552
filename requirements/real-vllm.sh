#!/bin/sh
# Puts a real vLLM, built for CPUs, into an environment of its own, .real/vllm (6 GB): what it pins does not go together
# with this project's pins. Needs the environment $1, for its uv, and a package index.
#
# The pins in vllm.txt: uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11 \
#     --override requirements/vllm-overrides.txt requirements/vllm.in -o requirements/vllm.txt
set -eu
cd "$(dirname "$0")/.."
venv=$1
[ -f .real/vllm/ready ] && cmp -s requirements/vllm.txt .real/vllm/ready && exit 0
if "$venv/bin/python" -c 'import ssl, sys; sys.exit(not any(ssl.get_default_verify_paths()[:2]))'; then
    export UV_SYSTEM_CERTS=1
fi
echo "making the environment of vLLM in .real/vllm (6 GB)"
"$venv/bin/uv" venv -q --clear --python "$venv/bin/python" .real/vllm
"$venv/bin/uv" pip install -q --python .real/vllm/bin/python --no-deps --require-hashes -r requirements/vllm.txt
cp requirements/vllm.txt .real/vllm/ready
