"""TLS around Modbus (MODBUS/TCP Security, V2.1): whom we believe, and who we are."""

import ssl

from gateway.drivers.modbus.config import ModbusSettings
from gateway.drivers.reasons import reason_of

_REFUSED_US = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_EXPIRED", "HANDSHAKE_FAILURE")
"""Alerts by which a device says that it does not like our certificate, or misses it (RFC 8446 §6.2)."""

_PERHAPS_OURS = "perhaps it refuses our certificate, or the lack of one; see cert_file and key_file"
"""Many devices hang up without a word, and a reset overtakes the alert of one that said it."""


def tls_context(settings: ModbusSettings) -> ssl.SSLContext:
    """A context that verifies chain, date and host name against `ca_file` alone, if given (trap B12).

    With `cert_file` and `key_file` we show a certificate of our own. Raises `OSError` that names the file at fault.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise OSError(f"ca_file {settings.ca_file}: {_reason(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert_file is not None:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        except OSError as error:
            raise OSError(f"cert_file {settings.cert_file}, key_file {settings.key_file}: {_reason(error)}") from None
    return context


def connecting_reason(error: OSError, settings: ModbusSettings) -> str:
    """Why no connection came about. A device that knows only TLS 1.2 refuses our certificate already here."""
    if settings.transport != "tls":
        return reason_of(error)
    return _PERHAPS_OURS if isinstance(error, ConnectionResetError) else _told(error)


def closing_reason(error: Exception | None, settings: ModbusSettings, has_answered: bool) -> str:
    """Why an open connection ended, as far as anybody said; empty if nobody did.

    With TLS 1.3 a device refuses our certificate on a connection that stands, before its first answer.
    """
    if error is not None and not isinstance(error, ConnectionResetError):
        return _told(error)
    return _PERHAPS_OURS if settings.transport == "tls" and not has_answered else ""


def _told(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and any(alert in str(error.reason) for alert in _REFUSED_US):
        return f"it refuses our certificate, or the lack of one ({_reason(error)}); see cert_file and key_file"
    return reason_of(error) if isinstance(error, ssl.SSLCertVerificationError) else _reason(error)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return reason_of(error)
