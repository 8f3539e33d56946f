"""An authority and two certificates to try TLS with: ``iceball certificates``. Days.

The authority's key is thrown away: nobody can make a third one. Invariant: nothing is written over.
"""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_BITS = 2048
_EARLIER = timedelta(minutes=5)  # clocks differ


class CertificatesError(OSError):
    """The files cannot be written; the message names which."""


def make_certificates(
    folder: Path, hosts: list[str], days: float = 90.0, now: datetime | None = None
) -> list[Path]:
    """ca.pem, and listener and scanner as .pem and .key. ``hosts``: what the listener is called by. Raises
    ``CertificatesError``."""
    begin = (now or datetime.now(UTC)) - _EARLIER
    until = begin + timedelta(days=days)
    ca_key = _key()
    ca = _certificate("iceball test authority", begin, until, ca_key, None, ca_key)
    files = {"ca.pem": _pem(ca)}
    for name, use, names in (
        ("listener", ExtendedKeyUsageOID.SERVER_AUTH, hosts),
        ("scanner", ExtendedKeyUsageOID.CLIENT_AUTH, []),
    ):
        key = _key()
        made = _certificate(f"iceball test {name}", begin, until, key, ca, ca_key, use, names)
        files |= {f"{name}.pem": _pem(made), f"{name}.key": _key_pem(key)}
    for name in files:
        if (folder / name).exists():
            raise CertificatesError(f"{folder / name}: is there already")
    return [_written(folder / name, data) for name, data in files.items()]


def _written(path: Path, data: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = 0o600 if path.suffix == ".key" else 0o644
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
    except OSError as error:
        raise CertificatesError(f"{path}: {error.strerror}") from None
    return path


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, _BITS)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _certificate(
    name: str,
    begin: datetime,
    until: datetime,
    key: rsa.RSAPrivateKey,
    ca: x509.Certificate | None,
    ca_key: rsa.RSAPrivateKey,
    use: x509.ObjectIdentifier | None = None,
    hosts: list[str] | None = None,
) -> x509.Certificate:
    """Without ``ca``: the authority's own."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca is None, 0 if ca is None else None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False
        )
        .add_extension(_key_usage(ca is None), True)
    )
    if use is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), False)
    if hosts:
        names = x509.SubjectAlternativeName([_host(h) for h in hosts])
        builder = builder.add_extension(names, False)
    return builder.sign(ca_key, hashes.SHA256())


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
