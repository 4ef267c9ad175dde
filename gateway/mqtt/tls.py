"""TLS to a broker: whom we believe, who we are, and what a failure means to whoever has to mend it (S8).

Chain, dates and host name are verified on every connection, and nothing in the YAML switches that off.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.mqtt.credentials import check_private
from gateway.mqtt.refusals import unreached
from gateway.mqtt.settings import BrokerSettings, TlsSettings

_OUR_CERTIFICATE: Final = "see tls: certificate: and key:, and what the broker trusts"

_ALERTS: Final = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED", "DECRYPT_ERROR")
"""Parts of the names of alerts by which a broker says that it does not like who we are (RFC 8446 §6.2)."""

_EXPIRED: Final = 10
_NOT_YET: Final = 9
_UNTRUSTED: Final = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME: Final = frozenset({62, 64})
"""OpenSSL's numbers for what is wrong with a certificate (x509_vfy.h)."""


class Peer(NamedTuple):
    """The broker as TLS has proven it: the version that was agreed, and its certificate (DER)."""

    version: str
    certificate: bytes


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """What a connection is wrapped with; reads files, so not for the event loop. Raises `OSError` with what to do."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except OSError as error:
        raise OSError(f"tls: ca: {tls.ca} {_file_fault(error, 'holds no certificate in PEM form')}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate is not None and tls.key is not None:
        check_private(tls.key, "key file")
        try:
            context.load_cert_chain(tls.certificate, tls.key, password=_no_passphrase)
        except OSError as error:
            fault = _file_fault(error, "are not a certificate and its key in PEM form")
            raise OSError(f"tls: certificate: {tls.certificate} and key: {tls.key} {fault}") from None
    return context


async def shake_hands(sock: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """Wrap a connected, non-blocking socket. Raises `OSError`; then, or if cancelled, the socket is closed."""
    wrapped = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    loop = asyncio.get_running_loop()
    try:
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                await _ready(wrapped, loop.add_reader, loop.remove_reader)
            except ssl.SSLWantWriteError:
                await _ready(wrapped, loop.add_writer, loop.remove_writer)
            else:
                return wrapped
    except BaseException:
        wrapped.close()
        raise


def peer_of(sock: ssl.SSLSocket) -> Peer:
    """Who is at the other end of a socket that has shaken hands; without a certificate it would not have."""
    certificate = sock.getpeercert(binary_form=True)
    assert certificate is not None
    return Peer(sock.version() or "TLS", certificate)


def reason_of(error: OSError, broker: BrokerSettings) -> str:
    """Why there is no connection, in words that say what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrust(error, broker)
    if not isinstance(error, ssl.SSLError):
        return _hung_up_shaking_hands(broker) if broker.tls and _is_reset(error) else unreached(error, broker)
    alert = error.reason or ""
    if "WRONG_VERSION_NUMBER" in alert or "RECORD_LAYER_FAILURE" in alert or "HTTP_REQUEST" in alert:
        return f"does not speak TLS on port {broker.port}; brokers usually do on 8883"
    if "PROTOCOL_VERSION" in alert or "UNSUPPORTED_PROTOCOL" in alert:
        return "speaks no TLS that is safe (1.2 or 1.3); update it, or allow it to"
    if "ALERT" in alert and any(word in alert for word in _ALERTS):
        return f"refuses our certificate, or the lack of one ({_plain(alert)}); {_OUR_CERTIFICATE}"
    if isinstance(error, ssl.SSLEOFError):
        return _hung_up_shaking_hands(broker)
    return f"TLS failed ({_plain(alert) or error})"


def hung_up(broker: BrokerSettings) -> str:
    """What may be meant by a broker that hangs up before it lets us in, without a word."""
    if broker.tls is None:
        return "perhaps it wants TLS on this port (mqtt: tls:)"
    return f"perhaps it refuses our certificate, or the lack of one; {_OUR_CERTIFICATE}"


def _hung_up_shaking_hands(broker: BrokerSettings) -> str:
    return f"hung up during the TLS handshake; perhaps port {broker.port} speaks no TLS, or {hung_up(broker)}"


def _distrust(error: ssl.SSLCertVerificationError, broker: BrokerSettings) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "its certificate has expired; renew it at the broker, or set this machine's clock if that is wrong"
    if code == _NOT_YET:
        return "its certificate is not valid yet; set this machine's clock, or the broker's certificate is wrong"
    if code in _OTHER_NAME:
        return (
            f"its certificate is not made for {broker.host}; write as host: a name that stands in it, or have one made "
            f"for {broker.host}"
        )
    if code in _UNTRUSTED:
        ca = broker.tls.ca if broker.tls is not None else None
        believed = f"the authorities in {ca}" if ca is not None else "the authorities that this system believes"
        return (
            f"its certificate was not signed by {believed} ({error.verify_message}); write the file of the one that "
            "did under tls: ca:"
        )
    return f"its certificate is refused: {error.verify_message}"


def _no_passphrase() -> str:
    """Without it OpenSSL would ask on the terminal, where nobody sits."""
    raise OSError("the key is encrypted; keep it as plain PEM in a file of mode 0600")


def _file_fault(error: OSError, if_unreadable: str) -> str:
    if not isinstance(error, ssl.SSLError):
        return f"cannot be read ({error.strerror or error})"
    if error.reason == "KEY_VALUES_MISMATCH":
        return "do not belong together; the key is another one"
    return f"{if_unreadable} ({_plain(error.reason or str(error))})"


def _plain(reason: str) -> str:
    return reason.replace("_", " ").lower()


def _is_reset(error: OSError) -> bool:
    return isinstance(error, ConnectionResetError | BrokenPipeError)


async def _ready(sock: ssl.SSLSocket, add: Callable[..., object], remove: Callable[[int], object]) -> None:
    """Wait until there is something to read, or room to write; the selector is left as it was."""
    number = sock.fileno()
    ready = asyncio.Event()
    add(number, ready.set)
    try:
        await ready.wait()
    finally:
        remove(number)
