"""What the YAML says of an OPC UA device and of a tag in it."""

from collections.abc import Hashable, Sequence
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from gateway.domain.values import INTEGER_RANGES, DataType, MethodCall, TagId
from gateway.drivers.base import Seconds, Tag, TagAddress
from gateway.drivers.opcua.device_clock import ClockPolicy
from gateway.drivers.opcua.node_ids import ComponentName, NodeName, parse_component, parse_node
from gateway.drivers.opcua.secure_channel.security_settings import OpcUaSecurity
from gateway.drivers.opcua.structured.fields import FieldPath, format_field, parse_field


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
FieldOfStructure = Annotated[
    FieldPath,
    BeforeValidator(parse_field),
    WithJsonSchema({"type": "string", "examples": ["Head.Speed", "Items[2].Value"]}),
]
Component = Annotated[
    ComponentName,
    BeforeValidator(parse_component),
    WithJsonSchema({"type": "string", "examples": ["nsu=http://opcfoundation.org/UA/DI/;SerialNumber"]}),
]
PositiveSeconds = Annotated[Seconds, Field(gt=0)]
QueueSize = Annotated[int, Field(ge=2, le=100_000)]
"""At least 2: with 1 a server keeps the latest value only and never sets the overflow bit (trap A13)."""


_NUMBERS: Final = frozenset({*INTEGER_RANGES, DataType.FLOAT32, DataType.FLOAT64})
DataTrigger = Literal["status", "value", "timestamp"]
"""What makes a value news (OPC 10000-4 §7.10): its status alone, also its value, or also its source time."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Deadband(_Strict):
    """How far a number must move before the server tells: in its own unit, or in percent of its EURange."""

    absolute: Annotated[float, Field(gt=0)] | None = None
    percent: Annotated[float, Field(gt=0, le=100)] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.absolute is None) == (self.percent is None):
            raise ValueError("a deadband is either {absolute: 0.5}, in the tag's raw unit, or {percent: 2}")
        return self


class ItemSettings(_Strict):
    """How tags are watched by the server, for a group of them; what is left out is as for the device."""

    sampling_interval: PositiveSeconds | None = None
    queue_size: QueueSize | None = None
    deadband: Deadband | None = None
    trigger: DataTrigger | None = None


class Snapshot(_Strict):
    """Tags that are read together when `trigger` moves, and come in no other way. Tags by id: `<unit>.<tag>`."""

    trigger: TagId
    read: Annotated[tuple[TagId, ...], Field(min_length=1)]
    edge: Literal["any", "rising", "falling"] = "any"


class OpcUaSettings(OpcUaSecurity):
    """One OPC UA server. Intervals are plant time, `request_timeout` is wall time.

    `clock` says whether the device's own times are believed (`source`), the moment of receipt is taken (`gateway`), or
    the device's times are put right where its clock is wrong by more than 5 s (`auto`).

    With `history` the server is asked for what its tags did in an outage in which it forgot the session.

    With `mode: poll` everything is read each `poll_interval`, for servers without subscriptions. Otherwise, when
    nothing changes, the server still answers once per `keepalive`; three of them missed and the link counts as lost.
    """

    url: Url
    namespace: str | None = None
    publishing_interval: PositiveSeconds = 0.5
    sampling_interval: PositiveSeconds = 0.25
    queue_size: QueueSize = 100
    request_timeout: PositiveSeconds = 4.0
    keepalive: PositiveSeconds = 5.0
    alarm_conditions: bool = False
    trigger: DataTrigger = "value"
    mode: Literal["subscribe", "poll"] = "subscribe"
    poll_interval: PositiveSeconds = 1.0
    snapshots: tuple[Snapshot, ...] = ()
    groups: Annotated[dict[str, ItemSettings], Field(default_factory=dict)]
    structures: bool = False
    clock: ClockPolicy = "auto"
    history: bool = False

    @property
    def lifetime(self) -> float:
        """Wall seconds for which the server shall keep what belongs to a gateway that says nothing.

        Long enough for a consumer that stalls and for three keep-alives (trap A6); no longer, for a gateway that died
        still holds one of the few sessions and subscriptions that a PLC allows.
        """
        return max(90.0, 3 * self.keepalive)


class OpcUaAddress(TagAddress):
    """One node, or one field of the structure in it; the other keys but `rewrite` override those of the device.

    `component` is the part of the object `node` that has this browse name; a field `*` is the whole as JSON text.

    With `group` they are, where the tag has none of its own, those of that group of the device.

    Tags that are fields of one node share one monitored item. `rewrite` permits to write a field: the gateway then
    reads the whole structure and writes it back with this field changed, and what the machine itself changed in
    between is overwritten.
    """

    node: Node
    component: Component | None = None
    field: FieldOfStructure | None = None
    rewrite: bool = False
    sampling_interval: PositiveSeconds | None = None
    queue_size: QueueSize | None = None
    deadband: Deadband | None = None
    trigger: DataTrigger | None = None
    history: bool | None = None
    group: str | None = None

    def overlaps(self, other: Self) -> bool:
        """See `TagAddress`. Of two fields one may be in the other; a whole structure has all of them."""
        return all(mine == theirs for mine, theirs in zip(self.field or (), other.field or (), strict=False))

    @property
    def shown(self) -> str:
        """The node by its namespace URI, and the part of it that the tag is."""
        component = f", part {self.component.name}" if self.component is not None else ""
        field = f", field {format_field(self.field)}" if self.field is not None else ""
        return f"{self.node}{component}{field}"


def in_group(settings: OpcUaSettings, address: OpcUaAddress) -> OpcUaAddress:
    """The address with what its group says, where it says nothing itself; a group that is not there says nothing."""
    group = settings.groups.get(address.group or "")
    if group is None:
        return address
    said = group.model_dump(exclude_none=True).keys()
    return address.model_copy(
        update={key: getattr(group, key) for key in said if getattr(address, key) is None},
    )


def opcua_place(settings: OpcUaSettings, address: OpcUaAddress) -> Hashable:
    """The node that is written, of the server that the url names."""
    namespace = settings.namespace if address.node.namespace is None else address.node.namespace
    return settings.url, NodeName(namespace, address.node.identifier), address.component


def wants_history(settings: OpcUaSettings, tag: Tag[OpcUaAddress]) -> bool:
    """True if the server's history shall fill what an outage took of this tag."""
    return settings.history if tag.address.history is None else tag.address.history


def check_opcua_tag(settings: OpcUaSettings, tag: Tag[OpcUaAddress]) -> list[str]:
    """What is wrong with this tag on this device, in sentences."""
    problems = []
    if tag.address.node.namespace is None and settings.namespace is None:
        problems.append(
            "the node has no namespace; write nsu=<namespace uri>;… before it, or give its device a namespace: <uri>"
        )
    problems += _check_field(settings, tag)
    if tag.address.group is not None and tag.address.group not in settings.groups:
        known = ", ".join(settings.groups) or "none"
        problems.append(f"its device has no group {tag.address.group!r}; the groups are: {known}")
    deadband = tag.address.deadband
    if deadband is not None and tag.type not in _NUMBERS:
        problems.append(f"a deadband is for numbers and this tag is a {tag.type}; take it out")
    elif deadband is not None and deadband.percent is not None and settings.mode == "poll":
        problems.append("a deadband in percent needs the server's EURange; with mode: poll write {absolute: …}")
    if wants_history(settings, tag) and settings.mode == "poll":
        problems.append("history is read where a subscription was lost; write mode: subscribe, or take history out")
    if wants_history(settings, tag) and settings.clock == "gateway":
        problems.append("history is dated by the device's clock; write clock: auto, or take history out")
    return problems


def _check_field(settings: OpcUaSettings, tag: Tag[OpcUaAddress]) -> list[str]:
    address = tag.address
    if address.field is None:
        return ["rewrite is for a field of a structure; take it out"] if address.rewrite else []
    problems = []
    if not settings.structures:
        problems.append("a field needs structures: true at its device, so that the server is asked for its types")
    if address.deadband is not None:
        problems.append("a deadband is for a single number, and the server tells a structure as a whole; take it out")
    return problems


def check_opcua_write(tag: Tag[OpcUaAddress]) -> list[str]:
    """What is wrong with writing this tag, in sentences."""
    if tag.address.field is None or tag.address.rewrite:
        return []
    return [
        "the configuration lets the gateway write this field, but a server takes the whole structure only; write "
        "rewrite: true if nothing else changes the structure meanwhile, else give the value a node of its own"
    ]


def check_opcua_call(settings: OpcUaSettings, call: MethodCall) -> list[str]:
    """What is wrong with calling this method, in sentences."""
    problems = []
    for key, text in (("object", call.object), ("method", call.method)):
        try:
            name = parse_node(text)
        except ValueError as error:
            problems.append(f"{key}: {error}")
            continue
        if name.namespace is None and settings.namespace is None:
            problems.append(f"{key}: the node has no namespace; write nsu=<namespace uri>;… before it")
    return problems


def check_opcua_device(settings: OpcUaSettings, tags: Sequence[Tag[OpcUaAddress]]) -> list[str]:
    """What is wrong between the device's snapshots and its tags, in sentences."""
    known = {tag.tag_id for tag in tags}
    read = {tag_id for snapshot in settings.snapshots for tag_id in snapshot.read}
    problems = []
    for snapshot in settings.snapshots:
        missing = [tag_id for tag_id in (snapshot.trigger, *snapshot.read) if tag_id not in known]
        if missing:
            problems.append(f"snapshots: this device has no tag {', '.join(missing)}; write <unit>.<tag> of one it has")
        if snapshot.trigger in read:
            problems.append(f"snapshots: {snapshot.trigger} cannot both be a trigger and be read by a snapshot")
    return problems
