"""A refusal to open a secure channel, heard as what it is.

A server may refuse with an error message, or with a ServiceFault in place of the OpenSecureChannelResponse, as
node-opcua does where it does not trust the client's certificate. Of the latter asyncua keeps an `AssertionError` only.
"""

from collections.abc import Callable
from typing import Any

from asyncua import ua
from asyncua.client.ua_client import UASocketProtocol
from asyncua.common.utils import Buffer
from asyncua.ua.uaerrors import UaStatusCodeError


def hear_refusals(protocol: UASocketProtocol) -> None:
    """Let a ServiceFault end the opening of a channel with its status code, like that of any other request."""
    answer: Callable[[int, Any], None] = protocol._call_callback

    def answer_or_refuse(request_id: int, body: Buffer | ua.Acknowledge) -> None:
        waiting = protocol._callbackmap.get(request_id)
        if protocol._open_secure_channel_exchange is not None and isinstance(body, Buffer) and waiting is not None:
            try:
                protocol.check_answer(body, " in response to OpenSecureChannelRequest")
            except UaStatusCodeError as refusal:
                del protocol._callbackmap[request_id]
                waiting.set_exception(refusal)
                return
        answer(request_id, body)

    protocol._call_callback = answer_or_refuse  # type: ignore[method-assign]
