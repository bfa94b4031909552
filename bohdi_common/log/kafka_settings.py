"""How to reach a Kafka cluster: one model for the three clients, and the one place that reads BOHDI_KAFKA* variables.

Secrets come from the environment or from a file that it names, never from a command line, and stand in no text that
this model gives.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

PREFIX = "BOHDI_KAFKA"
_CLIENT = "bohdi"
_SECURITIES = ("plaintext", "tls", "sasl_tls")
_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})")


class BadSetting(ValueError):
    """A setting of a process that cannot be used. The message is one line and holds no secret."""


@dataclass(frozen=True)
class KafkaSettings:
    """`bootstrap`: HOST:PORT, several with commas between. `security`: plaintext, tls or sasl_tls. Files are PEM."""

    bootstrap: str
    security: str = "plaintext"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    user: str = ""
    mechanism: str = _MECHANISMS[0]
    password: SecretStr = field(default_factory=lambda: SecretStr(""))

    @classmethod
    def from_environment(
        cls, bootstrap: str | None = None, environment: Mapping[str, str] | None = None
    ) -> KafkaSettings:
        """`bootstrap`: what a command line says in the place of BOHDI_KAFKA. Raises BadSetting."""
        told = os.environ if environment is None else environment
        where = "--kafka" if bootstrap else PREFIX
        address = bootstrap or told.get(PREFIX, "")
        if not address:
            raise BadSetting(f"no Kafka broker is named: give --kafka HOST:PORT, or set {PREFIX}")
        for part in address.split(","):
            found = _ADDRESS.fullmatch(part)
            if found is None or not 0 < int(found["port"]) < 65536:
                raise BadSetting(f"{where}: not HOST:PORT: {part!r}: give 127.0.0.1:9092, say; several with commas")
        security = _one_of(told, "SECURITY", _SECURITIES)
        settings = cls(
            address,
            security,
            _file(told, "CA"),
            _file(told, "CERTIFICATE"),
            _file(told, "KEY"),
            told.get(f"{PREFIX}_USER", ""),
            _one_of(told, "MECHANISM", _MECHANISMS),
            _password(told),
        )
        settings._check()
        return settings

    def _check(self) -> None:
        if self.security == "sasl_tls" and not (self.user and self.password):
            raise BadSetting(
                f"{PREFIX}_SECURITY is sasl_tls: set {PREFIX}_USER, and {PREFIX}_PASSWORD or {PREFIX}_PASSWORD_FILE"
            )
        if self.security == "plaintext" and (self.user or self.password or self.ca or self.certificate or self.key):
            raise BadSetting(
                f"{PREFIX}_SECURITY is plaintext, and yet a user, password or certificate is given: set it to tls or "
                "sasl_tls, or unset the others"
            )
        if (self.certificate is None) != (self.key is None):
            raise BadSetting(f"{PREFIX}_CERTIFICATE and {PREFIX}_KEY belong together: set both or none")
        if self.security != "plaintext":
            self._context()  # a file that is no certificate is found before anything starts

    # ---- the three clients -------------------------------------------------------------------------------------

    def for_kafka_python(self) -> dict[str, Any]:
        """Keyword arguments for kafka-python's clients."""
        return {"bootstrap_servers": self.bootstrap.split(","), "client_id": _CLIENT} | self._secured()

    def for_aiokafka(self) -> dict[str, Any]:
        """Keyword arguments for aiokafka's clients."""
        return {"bootstrap_servers": self.bootstrap.split(","), "client_id": _CLIENT} | self._secured()

    def for_faust(self) -> dict[str, Any]:
        """Keyword arguments for a faust app."""
        broker = [f"kafka://{address}" for address in self.bootstrap.split(",")]
        told: dict[str, Any] = {"broker": broker, "broker_client_id": _CLIENT}
        if self.security == "plaintext":
            return told
        import faust  # only a process that hosts by faust has it

        if self.security == "tls":
            return told | {"broker_credentials": faust.SSLCredentials(self._context())}
        credentials = faust.SASLCredentials(
            username=self.user,
            password=self.password.get_secret_value(),
            ssl_context=self._context(),
            mechanism=self.mechanism,
        )
        return told | {"broker_credentials": credentials}

    def _secured(self) -> dict[str, Any]:
        if self.security == "plaintext":
            return {}
        secured: dict[str, Any] = {"security_protocol": "SSL", "ssl_context": self._context()}
        if self.security == "sasl_tls":
            secured |= {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password.get_secret_value(),
            }
        return secured

    def _context(self) -> ssl.SSLContext:
        """Checks the broker's certificate and its name, always."""
        try:
            context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
            if self.certificate is not None and self.key is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (ssl.SSLError, OSError) as error:
            files = ", ".join(str(file) for file in (self.ca, self.certificate, self.key) if file)
            raise BadSetting(f"{PREFIX}_CA, _CERTIFICATE or _KEY: no PEM files that fit: {files}: {error}") from None
        return context


def _one_of(told: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    value = told.get(f"{PREFIX}_{name}", known[0])
    if value not in known:
        raise BadSetting(f"{PREFIX}_{name}: not known: {value!r}: set it to one of {', '.join(known)}")
    return value


def _file(told: Mapping[str, str], name: str) -> Path | None:
    value = told.get(f"{PREFIX}_{name}", "")
    if value and not Path(value).is_file():
        raise BadSetting(f"{PREFIX}_{name}: no such file: {value!r}: correct the path")
    return Path(value) if value else None


def _password(told: Mapping[str, str]) -> SecretStr:
    """From the variable, or from the first line of the file that another names."""
    file, given = _file(told, "PASSWORD_FILE"), told.get(f"{PREFIX}_PASSWORD", "")
    if file is None:
        return SecretStr(given)
    if given:
        raise BadSetting(f"{PREFIX}_PASSWORD and {PREFIX}_PASSWORD_FILE are both set: unset one")
    try:
        return SecretStr(file.read_text(encoding="utf-8").split("\n")[0].rstrip("\r"))
    except (OSError, UnicodeDecodeError):
        raise BadSetting(f"{PREFIX}_PASSWORD_FILE: cannot be read as text: {str(file)!r}") from None
