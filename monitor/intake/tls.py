"""TLS for the listener, as BCP 195 (RFC 9325) has it, and what is wrong with the files it needs.

PS3.15 B.12: TLS 1.2 or 1.3, forward secrecy, authenticated encryption, no renegotiation or compression.
Invariant: a context that exists was made of files that were read, belong together and are valid now.
"""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from monitor.config import TlsConfig

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class TlsError(ValueError):
    """A file of [listener.tls] is wrong; the message names it and says how."""


def server_context(config: TlsConfig, now: datetime | None = None) -> ssl.SSLContext:
    """Raises ``TlsError``. ``now``: with a time zone; None is the machine's."""
    at = now or datetime.now(UTC)
    chain = _certificates(config.certificate, "certificate", at)
    _check_host(config, chain[0])
    _check_key(config, chain[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_TICKET
    context.set_ciphers(CIPHERS)
    try:
        context.load_cert_chain(config.certificate, config.key)
        if config.ca is not None:
            _certificates(config.ca, "ca", at)
            context.load_verify_locations(config.ca)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"listener.tls: {config.certificate}: cannot be used: {error}") from None
    if config.require_client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def valid_until(config: TlsConfig) -> datetime:
    """When the first of its certificates expires. Raises ``TlsError``."""
    at = datetime.now(UTC)
    found = _certificates(config.certificate, "certificate", at)
    found += _certificates(config.ca, "ca", at) if config.ca is not None else []
    return min(c.not_valid_after_utc for c in found)


def _bytes(path: Path, field: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"listener.tls.{field}: {path}: {error.strerror}") from None


def _certificates(path: Path, field: str, at: datetime) -> list[x509.Certificate]:
    """All of the file, valid now; the first is the listener's own, or an authority's."""
    where = f"listener.tls.{field}: {path}"
    data = _bytes(path, field)
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError:
        raise TlsError(f"{where}: is not a certificate (PEM)") from None
    for certificate in found:
        if at < certificate.not_valid_before_utc:
            raise TlsError(
                f"{where}: not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            )
        if at > certificate.not_valid_after_utc:
            raise TlsError(
                f"{where}: expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            )
    return found


def _check_host(config: TlsConfig, certificate: x509.Certificate) -> None:
    if config.host is None:
        return
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        known = [*names.get_values_for_type(x509.DNSName)]
        known += map(str, names.get_values_for_type(x509.IPAddress))
    except x509.ExtensionNotFound:
        known = []
    if not any(_same_host(config.host, name) for name in known):
        said = ", ".join(known) or "no host"
        raise TlsError(
            f"listener.tls.certificate: {config.certificate}: is for {said}, not for {config.host}"
        )


def _same_host(host: str, name: str) -> bool:
    """A wildcard stands for one label (RFC 6125)."""
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(name)
    except ValueError:
        pass
    host, name = host.lower().rstrip("."), name.lower().rstrip(".")
    return host == name or (name.startswith("*.") and host.partition(".")[2] == name[2:])


def _check_key(config: TlsConfig, certificate: x509.Certificate) -> None:
    where = f"listener.tls.key: {config.key}"
    data = _bytes(config.key, "key")
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        raise TlsError(f"{where}: is encrypted; a key without a passphrase is needed") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TlsError(f"{where}: is not a private key (PEM)") from None
    if key.public_key() != certificate.public_key():
        raise TlsError(f"{where}: does not match the certificate {config.certificate}")


# ------------------------------------------------------------------ handshakes that fail

# OpenSSL's words for what a peer did, and what is meant.
_MEANT = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer has no certificate",
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS",
    "HTTP_REQUEST": "the peer does not speak TLS but HTTP",
    "UNSUPPORTED_PROTOCOL": "the peer's TLS is older than 1.2",
    "NO_SHARED_CIPHER": "the peer offers no cipher that is good enough",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust this listener's certificate",
    "UNEXPECTED_EOF_WHILE_READING": "the peer left in the handshake",
}


def failure(error: ssl.SSLError) -> str:
    """Why TLS failed, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the peer's certificate is not accepted: {error.verify_message}"
    reason = str(error.reason or error)
    return f"TLS: {_MEANT.get(reason, reason.replace('_', ' ').lower())}"
