"""What the YAML says of an OPC UA device and of a tag in it."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.drivers.base import Seconds, Tag, TagAddress
from gateway.drivers.opcua.node_ids import NodeName, parse_node
from gateway.drivers.opcua.security_settings import OpcUaSecurity


def _parse_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "opc.tcp" or not parts.hostname or parts.port is None:
        raise ValueError(f"{text!r} is not an OPC UA address; write opc.tcp://<host>:<port>; the usual port is 4840")
    if "@" in parts.netloc:
        # Not repeated in the message: it may hold a password.
        raise ValueError(
            "the url carries a user name or password; take it out, with security none it would go in clear"
        )
    return text


Url = Annotated[str, AfterValidator(_parse_url)]
Node = Annotated[
    NodeName,
    BeforeValidator(parse_node),
    WithJsonSchema({"type": "string", "pattern": "^(nsu=[^;]+;)?[sigb]=.+", "examples": ["nsu=urn:plc;s=Line1.Good"]}),
]
PositiveSeconds = Annotated[Seconds, Field(gt=0)]
QueueSize = Annotated[int, Field(ge=2, le=100_000)]
"""At least 2: with 1 a server keeps the latest value only and never sets the overflow bit (trap A13)."""


class OpcUaSettings(OpcUaSecurity):
    """One OPC UA server. Intervals are plant time, `request_timeout` is wall time.

    When nothing changes the server still answers once per `keepalive`; three of them missed and the link counts as
    lost.
    """

    url: Url
    namespace: str | None = None
    publishing_interval: PositiveSeconds = 0.5
    sampling_interval: PositiveSeconds = 0.25
    queue_size: QueueSize = 100
    request_timeout: PositiveSeconds = 4.0
    keepalive: PositiveSeconds = 5.0

    @property
    def lifetime(self) -> float:
        """Wall seconds for which the server shall keep what belongs to a gateway that says nothing.

        Long enough for a consumer that stalls and for three keep-alives (trap A6); no longer, for a gateway that died
        still holds one of the few sessions and subscriptions that a PLC allows.
        """
        return max(90.0, 3 * self.keepalive)


class OpcUaAddress(TagAddress):
    """One node; `sampling_interval` and `queue_size` override those of the device."""

    node: Node
    sampling_interval: PositiveSeconds | None = None
    queue_size: QueueSize | None = None


def check_opcua_tag(settings: OpcUaSettings, tag: Tag[OpcUaAddress]) -> list[str]:
    """What is wrong with this tag on this device, in sentences."""
    if tag.address.node.namespace is None and settings.namespace is None:
        return [
            "the node has no namespace; write nsu=<namespace uri>;… before it, or give its device a namespace: <uri>"
        ]
    return []
