"""TLS for the listener and for sending, as BCP 195 (RFC 9325) has it, and what is wrong with its files.

PS3.15 B.12: TLS 1.2 or 1.3, forward secrecy, authenticated encryption, no renegotiation or compression.
Invariant: a context that exists was made of files that were read, belong together and are valid now.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from monitor.config import ClientTls, TlsConfig

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class TlsError(ValueError):
    """A file of [listener.tls] or [pacs.tls] is wrong; the message names it and says how."""


def server_context(config: TlsConfig, now: datetime | None = None) -> ssl.SSLContext:
    """Raises ``TlsError``. ``now``: with a time zone; None is the machine's."""
    at, where = now or datetime.now(UTC), "listener.tls"
    chain = _certificates(config.certificate, f"{where}.certificate", at)
    _check_host(config, chain[0])
    _check_key(config.key, config.certificate, where, chain[0])
    context = _profile(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_TICKET
    _load(context, where, at, config.ca, config.certificate, config.key)
    if config.require_client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def valid_until(config: TlsConfig) -> datetime:
    """When the first of its certificates expires. Raises ``TlsError``."""
    at = datetime.now(UTC)
    found = _certificates(config.certificate, "certificate", at)
    found += _certificates(config.ca, "ca", at) if config.ca is not None else []
    return min(c.not_valid_after_utc for c in found)


class ClientContext(ssl.SSLContext):
    """Remembers why a handshake failed, which the DICOM library does not say. ``trouble``: "" if none did."""

    trouble = ""


class _Telling(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        self._told(super().do_handshake, block)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002
        """In TLS 1.3 a peer refuses a certificate only after the handshake."""
        return self._told(super().read, len, buffer)

    def _told(self, do: Callable[..., Any], *args: Any) -> Any:
        try:
            return do(*args)
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLError as error:
            self._remember(failure(error))
            raise
        except OSError:  # what speaks plain DICOM takes the handshake for nonsense, and hangs up
            self._remember("TLS: the peer left in the handshake; does it speak TLS?")
            raise

    def _remember(self, text: str) -> None:
        assert isinstance(self.context, ClientContext)
        self.context.trouble = self.context.trouble or text


def client_context(
    config: ClientTls, where: str = "pacs.tls", now: datetime | None = None
) -> ClientContext:
    """For sending: the receiver's certificate is always looked at. ``where``: what names the files. Raises
    ``TlsError``."""
    at = now or datetime.now(UTC)
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    _profile(context)
    context.sslsocket_class = _Telling
    if config.certificate is not None and config.key is not None:
        own = _certificates(config.certificate, f"{where}.certificate", at)
        _check_key(config.key, config.certificate, where, own[0])
    _load(context, where, at, config.ca, config.certificate, config.key)
    return context


def _profile(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    return context


def _load(
    context: ssl.SSLContext,
    where: str,
    at: datetime,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> None:
    try:
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        if ca is not None:
            _certificates(ca, f"{where}.ca", at)
            context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"{where}: {certificate or ca}: cannot be used: {error}") from None


def _bytes(path: Path, field: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{field}: {path}: {error.strerror}") from None


def _certificates(path: Path, field: str, at: datetime) -> list[x509.Certificate]:
    """All of the file, valid now; the first is this side's own, or an authority's."""
    where = f"{field}: {path}"
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


def _check_key(path: Path, of: Path, field: str, certificate: x509.Certificate) -> None:
    where = f"{field}.key: {path}"
    data = _bytes(path, f"{field}.key")
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        raise TlsError(f"{where}: is encrypted; a key without a passphrase is needed") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TlsError(f"{where}: is not a private key (PEM)") from None
    if key.public_key() != certificate.public_key():
        raise TlsError(f"{where}: does not match the certificate {of}")


# ------------------------------------------------------------------ handshakes that fail

_ANY = "peer_tls"
# OpenSSL's words for what a peer did; what is meant, and the code of that for who is shut out.
_MEANT = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": ("the peer has no certificate", "peer_tls_no_certificate"),
    "WRONG_VERSION_NUMBER": ("the peer does not speak TLS", "peer_tls_plain"),
    "HTTP_REQUEST": ("the peer does not speak TLS but HTTP", "peer_tls_plain"),
    "UNSUPPORTED_PROTOCOL": ("the peer's TLS is older than 1.2", "peer_tls_old"),
    "NO_SHARED_CIPHER": ("the peer offers no cipher that is good enough", "peer_tls_old"),
    "TLSV1_ALERT_UNKNOWN_CA": (
        "the peer does not trust this side's certificate",
        "peer_tls_not_trusted",
    ),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": (
        "the peer asks for a certificate, and there is none",
        _ANY,
    ),
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (
        "the peer does not accept what this side offers or lacks",
        _ANY,
    ),
    "UNEXPECTED_EOF_WHILE_READING": ("the peer left in the handshake", _ANY),
}


def failure(error: ssl.SSLError) -> str:
    """Why TLS failed, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the peer's certificate is not accepted: {error.verify_message}"
    reason = str(error.reason or error)
    meant, _ = _MEANT.get(reason, (reason.replace("_", " ").lower(), _ANY))
    return f"TLS: {meant}"


def failure_code(error: ssl.SSLError) -> str:
    """The same, as a code of ``reason.CODE``, of a peer that called here."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "peer_tls_certificate"
    return _MEANT.get(str(error.reason), ("", _ANY))[1]
