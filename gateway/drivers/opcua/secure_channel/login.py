"""Who is logging in: nobody in particular, a user with a password, or a user with a certificate (Part 4 §7.41)."""

import asyncio
from typing import Final

from asyncua.client.client import Client
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.drivers.opcua.secure_channel.certificate_files import read_certificate, read_key
from gateway.drivers.opcua.secure_channel.certificates import CertificateError
from gateway.drivers.opcua.secure_channel.security_settings import OpcUaSecurity
from gateway.drivers.opcua.secure_channel.trust import Distrust
from gateway.drivers.opcua.status_codes import status_name

_REFUSALS: Final = frozenset(
    getattr(StatusCodes, name)
    for name in (
        "BadIdentityChangeNotSupported", "BadIdentityTokenInvalid", "BadIdentityTokenRejected", "BadUserAccessDenied",
        "BadUserSignatureInvalid",
    )
)  # fmt: skip


async def log_in(client: Client, settings: OpcUaSecurity) -> None:
    """Activate the session that `client` has created.

    The password is read for this moment and kept nowhere. Raises `Distrust` when the server refuses the user.
    """
    if settings.security == "none" and (settings.user or settings.user_certificate):
        raise Distrust("a user is not sent over a channel without encryption; write security: Basic256Sha256")
    try:
        if settings.user is not None:
            await client.activate_session(settings.user, await asyncio.to_thread(settings.password))
        elif settings.user_certificate is not None:
            certificate, client.user_private_key = await asyncio.to_thread(_read_user, settings)
            await client.activate_session(certificate=certificate)
        else:
            await client.activate_session()
    except UaStatusCodeError as error:
        if error.code not in _REFUSALS:
            raise
        raise Distrust(_advice(settings, status_name(error.code))) from None


def _advice(settings: OpcUaSecurity, status: str) -> str:
    if settings.user is not None:
        who, what = f"the user {settings.user}", f"check the name, and the password in {settings.password_file}"
    elif settings.user_certificate is not None:
        who, what = "the user certificate", f"make {settings.user_certificate} known to the server"
    else:
        who, what = "a session without a user", "give this device user and password_file"
    return f"the server refuses {who} ({status}); {what}"


def _read_user(settings: OpcUaSecurity) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    assert settings.user_certificate is not None
    assert settings.user_key is not None
    try:
        certificate = read_certificate(settings.user_certificate)
        return certificate, read_key(settings.user_key, certificate)
    except CertificateError as error:
        raise Distrust(str(error)) from None
