"""How pip reaches its package index on this machine, as secrets of a build: read from pip itself, in no layer."""

from __future__ import annotations

import ast
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_TAKEN = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
_CERTIFICATES = "/run/secrets/certificates"  # where the Dockerfiles mount the secret of this name


def secrets(folder: Path) -> Mapping[str, Path]:
    """The Dockerfiles' secrets, as files in `folder`: `pip`, a pip.conf with what this machine's pip is told of
    indexes, and `certificates`, those that it trusts, if any are known."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    options = {}
    for line in told.stdout.splitlines():
        name, _, value = line.partition("=")
        options[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    made = {}
    trusted = options.get("cert") or ssl.get_default_verify_paths().cafile or ""
    if trusted and Path(trusted).is_file():
        made["certificates"] = folder / "certificates.pem"
        made["certificates"].write_bytes(Path(trusted).read_bytes())
    lines = ["[global]", *(f"{name} = {options[name]}" for name in _TAKEN if name in options)]
    lines += [f"cert = {_CERTIFICATES}"] if made else []
    made["pip"] = folder / "pip.conf"
    made["pip"].touch(mode=0o600)  # an index's address may have a password in it
    made["pip"].write_text("\n".join([*lines, ""]))
    return made
