#!/bin/sh
# Generates bohdi_common/events/events_pb2.py and its type stub into $1 (default: where they stand).
set -eu
cd "$(dirname "$0")/.."
out=${1:-bohdi_common/events}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-.venv/bin/python}" -m grpc_tools.protoc -I proto --python_out="$work" --pyi_out="$work" proto/bohdi/v1/events.proto
mkdir -p "$out"
cp "$work"/bohdi/v1/events_pb2.py "$work"/bohdi/v1/events_pb2.pyi "$out"/
