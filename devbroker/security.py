"""What a broker that demands TLS and SASL needs: an authority, the server's certificate, one user. For this machine's
tests alone: the key is not protected and the password is in this file."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

USER = "bohdi"
PASSWORD = "the-password-of-the-tests"  # of a broker on loopback that lives as long as a test
_VALID_DAYS = 30


@dataclass(frozen=True)
class Certificates:
    """PEM files: the authority's certificate, and the server's key and certificates."""

    ca: Path
    server: Path

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        """Makes both, signed by a new authority."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        def named(name: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

        def signed(subject: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, is_ca: bool) -> bytes:
            now = datetime.datetime.now(datetime.UTC)
            names: list[x509.GeneralName] = [
                x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")),
            ]  # fmt: skip
            builder = (
                x509.CertificateBuilder()
                .subject_name(named(subject))
                .issuer_name(named("bohdi tests"))
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(hours=1))
                .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
                .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
            )
            if is_ca:
                usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
                builder = builder.add_extension(usage, critical=True)
            else:
                builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            return builder.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

        folder.mkdir(parents=True, exist_ok=True)
        authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca_pem = signed("bohdi tests", authority, authority, is_ca=True)
        key_pem = server.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        made = cls(folder / "ca.pem", folder / "server.pem")
        made.ca.write_bytes(ca_pem)
        made.server.write_bytes(key_pem + signed("localhost", server, authority, is_ca=False) + ca_pem)
        return made
