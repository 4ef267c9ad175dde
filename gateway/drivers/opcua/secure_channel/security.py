"""Which secure channel to open: the endpoint, whether that is the server we trust, and who we are.

Everything is settled before the first secured byte, for asyncua would take any certificate that the endpoint list
hands it (trap A20). What the server said in clear is asked again on the secure channel, so that nobody in between can
have changed it (Part 4 §5.6.2).
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError
from cryptography import x509

from gateway.drivers.opcua.secure_channel.certificates import (
    CertificateError,
    application_uris,
    first_of_chain,
    thumbprint,
)
from gateway.drivers.opcua.secure_channel.limits import keep_own_measure
from gateway.drivers.opcua.secure_channel.pki import Own, Pki
from gateway.drivers.opcua.secure_channel.security_settings import OpcUaSecurity
from gateway.drivers.opcua.secure_channel.trust import Announced, Distrust, judge
from gateway.drivers.opcua.status_codes import status_name
from gateway.drivers.reasons import reason_of

log = structlog.get_logger()

_POLICIES: Final[dict[str, Any]] = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128Sha256RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256Sha256RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
_ENCRYPTED: Final = ua.MessageSecurityMode.SignAndEncrypt
_CERTIFICATE_REFUSALS: Final = {StatusCodes.BadSecurityChecksFailed} | {
    code for name, code in vars(StatusCodes).items() if name.startswith("BadCertificate")
}


async def prepare(client: Client, settings: OpcUaSecurity, url: str, patience: float) -> None:
    """Arm a client that is not connected yet with policy and certificates; with `security: none` it stays as it is.

    Asks the server for its endpoints; `patience` is seconds of wall time per request. Raises `Distrust`, and what
    asyncua raises for a server out of reach.
    """
    if settings.security == "none":
        return
    endpoint = choose_endpoint(await _ask_endpoints(url, patience), settings.security)
    announced = Announced(_certificate(endpoint), endpoint.Server.ApplicationUri or "")
    owns = await asyncio.to_thread(_check, settings, url, announced)
    newest, *replaced = owns
    own = newest if not replaced else await _accepted(owns, announced, settings, url, patience)
    _arm(client, announced, own, settings.security)


def _arm(client: Client, announced: Announced, own: Own, security: str) -> None:
    async def still_the_same(certificate: x509.Certificate, server: ua.ApplicationDescription) -> None:
        if (certificate, server.ApplicationUri) != (announced.certificate, announced.application_uri):
            raise Distrust("it names itself otherwise on the secure channel than in clear; look for who is in between")

    client.application_uri = application_uris(own.certificate)[0]
    client.security_policy = _POLICIES[security](announced.certificate, own.certificate, own.key, _ENCRYPTED)
    client.uaclient.set_security(client.security_policy)
    client.certificate_validator = still_the_same


async def _accepted(owns: list[Own], announced: Announced, settings: OpcUaSecurity, url: str, patience: float) -> Own:
    """The newest of our certificates that the server takes.

    A server knows our certificate because a person put it there. After a renewal it knows the one before only, and
    that holds for some days yet: reason to warn, not to lose the line.
    """
    for own in owns:
        client = _make_client(url, patience)
        _arm(client, announced, own, settings.security)
        try:
            await client._with_temp_channel(partial(_create_and_close_session, client))
        except UaStatusCodeError as error:
            if error.code not in _CERTIFICATE_REFUSALS:
                raise
            log.warning("server does not trust the renewed certificate", url=url, trust=thumbprint(own.certificate))
        else:
            return own
    return owns[0]


async def _create_and_close_session(client: Client) -> None:
    """Some servers judge a certificate when the channel is opened, some when the session is created."""
    await client.create_session()
    await client.uaclient.close_session(True)


def _make_client(url: str, patience: float) -> Client:
    client = Client(url, timeout=patience)
    keep_own_measure(client)
    return client


async def _ask_endpoints(url: str, patience: float) -> Sequence[ua.EndpointDescription]:
    """What the server offers, asked in clear; nothing of it is believed without a check."""
    client = _make_client(url, patience)
    endpoints: Sequence[ua.EndpointDescription] = await client.connect_and_get_server_endpoints()
    return endpoints


def choose_endpoint(endpoints: Sequence[ua.EndpointDescription], security: str) -> ua.EndpointDescription:
    """The endpoint with that policy and SignAndEncrypt; raises `Distrust` rather than take a weaker one (S6)."""
    wanted = (_ENCRYPTED, _POLICIES[security].URI)
    for endpoint in endpoints:
        over_tcp = (endpoint.EndpointUrl or "").startswith("opc.tcp:")
        if over_tcp and (endpoint.SecurityMode, endpoint.SecurityPolicyUri) == wanted:
            return endpoint
    offers = sorted({_name(endpoint) for endpoint in endpoints})
    raise Distrust(
        f"the server does not offer {security} with SignAndEncrypt, only: {', '.join(offers) or 'nothing'}. Switch it "
        "on there, or write another security for this device; none only where nothing needs to be protected"
    )


def _name(endpoint: ua.EndpointDescription) -> str:
    """`Basic256Sha256/Sign` for people."""
    policy = (endpoint.SecurityPolicyUri or "").rpartition("#")[2]
    mode: str = endpoint.SecurityMode.name
    return policy if policy == "None" else f"{policy}/{mode}"


def _certificate(endpoint: ua.EndpointDescription) -> x509.Certificate:
    try:
        return first_of_chain(endpoint.ServerCertificate or b"")
    except CertificateError as error:
        raise Distrust(str(error)) from None


def _check(settings: OpcUaSecurity, url: str, announced: Announced) -> list[Own]:
    """Judge the server, then fetch our own certificates, the newest first; reads files."""
    pki, now = Pki(settings.pki_folder), round(time.time() * 1000)
    try:
        judge(announced, pki, now, dialled=None if settings.allow_other_host else urlsplit(url).hostname)
        owns = pki.owns(now)
    except CertificateError as error:
        raise Distrust(str(error)) from None
    made_for = application_uris(owns[0].certificate)
    if not made_for or settings.application_uri not in (None, *made_for):
        raise Distrust(
            f"the own certificate in {pki.folder} is made for {made_for[0] if made_for else 'no application'}, the "
            f"configuration says application_uri: {settings.application_uri}; make the two equal"
        )
    return owns


def reason_of_refusal(client: Client, error: Exception) -> str:
    """Why the server ended the opening, in words; also where it may be our certificate that it does not trust."""
    own = client.security_policy.host_certificate
    if not own or not isinstance(error, UaStatusCodeError) or error.code not in _CERTIFICATE_REFUSALS:
        return reason_of(error)
    ours = thumbprint(x509.load_der_x509_certificate(own))
    return f"the server refuses this gateway's certificate ({status_name(error.code)}); trust it there: {ours}"
