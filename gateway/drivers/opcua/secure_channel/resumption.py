"""Going on with a session over a new channel (OPC 10000-4 §6.7): the server keeps it, and its subscriptions, for its
timeout. Whoever can name its token and sign its last nonce activates it again.
"""

from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaStatusCodeError

from gateway.drivers.opcua.secure_channel.login import log_in
from gateway.drivers.opcua.secure_channel.security_settings import OpcUaSecurity


@dataclass(frozen=True, slots=True)
class Ticket:
    """What it takes to go on with a session. As good as a password while the session lives, so it is never shown."""

    token: ua.NodeId = field(repr=False)
    nonce: bytes | None = field(repr=False)
    certificate: Any = field(repr=False)
    user_policies: list[Any] = field(repr=False)


def take_ticket(client: Client) -> Ticket | None:
    """The ticket to the session that this client has, if it has one."""
    session = client.uaclient.session
    if not session.has_session:
        return None
    return Ticket(
        session.authentication_token, client._server_nonce, client.security_policy.peer_certificate, client._policy_ids
    )


async def resume(client: Client, security: OpcUaSecurity, ticket: Ticket) -> bool:
    """Activate the ticket's session on the channel that `client` has opened; False if the server does not keep it.

    A server that came back with another certificate is not given the token.
    """
    policy: Any = client.security_policy
    # Without security no certificate is known before the session, though a server may show one in it.
    if policy.peer_certificate and policy.peer_certificate != ticket.certificate:
        return False
    policy.peer_certificate = ticket.certificate
    remembered: Any = client  # asyncua declares what it has no value for at first as None for ever
    remembered._server_nonce, remembered._policy_ids = ticket.nonce, ticket.user_policies
    client.uaclient.session.restore_authentication_token(ticket.token)
    try:
        await log_in(client, security)
    except UaStatusCodeError:
        client.uaclient.session.reset_authentication_token()
        return False
    return True
