"""The shape of the YAML: what may stand where. Meaning across sections is checked in `resolve`.

The driver's own keys of devices and tags are the models beside each driver; here is what all share.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from gateway.config.download_models import DownloadSection
from gateway.config.job_models import JobControlSection
from gateway.config.section import PATH, Name, Rate, Section, Unit
from gateway.config.sizes import Bytes
from gateway.domain.production.counters import RestartPolicy
from gateway.domain.production.kpi import IsoTime
from gateway.domain.production.orders import OrderSource
from gateway.domain.state.states import State
from gateway.domain.values import DataType
from gateway.drivers.base import Seconds


class GatewaySection(Section):
    """The gateway itself."""

    id: Name
    site: Annotated[str, Field(pattern=PATH)]
    topic_root: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")] = "mfg/v1"
    store: str = "var/gateway.db"
    store_limit: Annotated[Bytes, Field(ge=16_000_000)] = 1_000_000_000
    keep_published: Annotated[Seconds, Field(ge=3600)] = 72 * 3600.0


class PublishSection(Section):
    """How often a tag is told as a run parameter; `true` alone is every change."""

    deadband: Annotated[float, Field(ge=0)] = 0.0
    min_interval: Annotated[Seconds, Field(ge=0)] = 0.0
    max_interval: Annotated[Seconds, Field(gt=0)] | None = None


def publish_section(value: object) -> object:
    """`true` is a section without limits, `false` none."""
    return {True: PublishSection(), False: None}.get(value, value) if isinstance(value, bool) else value


Publish = Annotated[PublishSection | None, BeforeValidator(publish_section)]


class DerivedTagSection(Section):
    """A tag that is computed of others."""

    expression: str
    type: DataType = DataType.FLOAT64
    unit: Unit | None = None
    publish: Publish = None


class TagSection(Section):
    """What every tag has, whatever its device."""

    type: DataType
    scale: float = Field(default=1.0, description="engineering value = raw * scale + offset")
    offset: float = 0.0
    bit: Annotated[int, Field(ge=0, le=63)] | None = None
    sentinels: tuple[int | float, ...] = ()
    enum: dict[int, str] = Field(default={}, description="the text of each code, such as {0: stopped, 1: running}")
    unit: Unit | None = None
    publish: Publish = None
    heartbeat: Seconds | None = None
    device: Name | None = None


class RuleSection(Section):
    """One state rule."""

    to: State
    when: str
    debounce: Seconds | None = None
    reason: str | None = None


class StateSection(Section):
    """How the state is read: by own rules, by a ready-made model, or by own rules before those of a model."""

    model: str | None = None
    tags: dict[str, str | None] = Field(default={}, description="the tag of each role of the model; ~ leaves one out")
    rules: tuple[RuleSection, ...] = ()
    raw: tuple[str, ...] | None = None
    reasons: dict[str, str | None] = {}
    debounce: Seconds = 5.0
    micro_stop: Seconds = 120.0
    stale_after: Seconds = 30.0
    reason_window: Seconds = 10.0


class CounterSection(Section):
    """A counter of the machine, or one derived from others."""

    tag: str | None = None
    max: Annotated[int, Field(gt=0)] | None = None
    max_rate: Rate | None = None
    policy: RestartPolicy = RestartPolicy.BOTH
    tolerance: Annotated[int, Field(ge=0)] = 0
    derive: str | None = None


class OrderSection(Section):
    """Where the order context comes from: a download, a tag, commands, or another unit by its name."""

    source: Annotated[OrderSource, Field(description="download, tag or command")] | Name = Field(
        alias="from", union_mode="left_to_right"
    )
    tag: str | None = None
    since: str | None = None
    transit: Seconds | None = None
    trigger: str | None = None
    operation: str | None = None
    complete: Literal["at_quantity"] | None = None


class ContainerSection(Section):
    """Tags that report pallets. Without a tag `sscc` the code is made of `sscc_prefix` and the sequence number."""

    sequence: str
    sscc: str | None = None
    sscc_prefix: Annotated[str, Field(pattern=r"^[0-9]{8,16}$")] | None = None
    quantity: str
    cases: str | None = None
    full: Annotated[int, Field(gt=0)] | None = None


class AlarmBitSection(Section):
    """A bit of an alarm word; `acked` is the tag of the word whose same bit says that it was acknowledged."""

    tag: str
    bit: Annotated[int, Field(ge=0, le=63)]
    acked: str | None = None


class AlarmEntrySection(Section):
    """One entry of a PackTags alarm array."""

    trigger: str
    code: str
    message: str | None = None
    severity: str | None = None
    acked: str | None = None


class AlarmTextSection(Section):
    """What people read of a code, how long it must be up before it is told, and gone before it is over."""

    text: str = ""
    severity: Annotated[int, Field(ge=1, le=1000)] = 500
    alarm_class: Name = Field(default="process", alias="class")
    on_delay: Seconds | None = None
    off_delay: Seconds | None = None


class AlarmsSection(Section):
    """Where the alarms come from: any of bits (by code), entries, and the source name of OPC UA conditions."""

    bits: dict[Name, AlarmBitSection] = {}
    entries: tuple[AlarmEntrySection, ...] = ()
    conditions: str | None = None
    acknowledge: bool = Field(default=False, description="the MES may acknowledge and confirm the conditions")
    texts: dict[Name, AlarmTextSection] = {}
    on_delay: Seconds = 0.0
    off_delay: Seconds = 0.0


class SampleSection(Section):
    """A subgroup of samples: `sequence` changes with each, `values` holds it."""

    sequence: str
    values: str
    gage: Name
    unit: Unit | None = None
    limits_of: Name | None = None
    lsl: float | None = None
    usl: float | None = None


class MaterialSection(Section):
    """Material that one piece of `counter` uses one of; `container` is a tag that changes with every full one."""

    counter: Name
    capacity: Annotated[int, Field(gt=0)]
    low: Annotated[int, Field(ge=0)]
    container: str | None = None
    lot: str | None = None
    call_off: Annotated[int, Field(gt=0)] | None = None
    dock: str | None = None


class ToolSection(Section):
    """A tool that each piece of `counter` uses once; the tag `serial` changes with every new one."""

    counter: Name
    serial: str
    limit: Annotated[int, Field(gt=0)]
    unit: str = "pcs"
    thresholds: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (90.0, 100.0)
    spare: str | None = None


class ScanSection(Section):
    """A scanner of parts: `trigger` changes with every reading; without `parent` it is the lot of the order."""

    trigger: str
    child: str
    parent: str | None = None
    relation: Name = "assembled"
    unread: str = "NOREAD"


class EnergySection(Section):
    """A meter: `kwh` is what one raw count means, `max` the highest reading before it wraps."""

    tag: str
    kwh: Annotated[float, Field(gt=0)]
    max: Annotated[int, Field(gt=0)]
    medium: Name = "elec"
    interval: Seconds = 900.0


class KpiSection(Section):
    """Indicators of ISO 22400: what is planned for one piece, and states that count as another time than usual.

    `cycle_parameter` is a parameter of the download whose unit is a time (s) or a rate (/min).
    """

    cycle_time: Annotated[Seconds, Field(gt=0)] | None = None
    cycle_parameter: Name | None = None
    times: dict[State, IsoTime] = {}


def _switched_on(value: object) -> object:
    """`kpi: true` is the section with nothing in it, `kpi: false` is none."""
    return {} if value is True else None if value is False else value


class ProductionSection(Section):
    """What an equipment or one of its lanes counts, and for whom."""

    counters: dict[Name, CounterSection] = {}
    count_unit: str = "pcs"
    count_window: Seconds = 60.0
    order: OrderSection | None = None
    container: ContainerSection | None = None
    samples: dict[Name, SampleSection] = {}
    materials: dict[Name, MaterialSection] = {}
    tools: dict[Name, ToolSection] = {}
    scans: dict[Name, ScanSection] = {}
    energy: EnergySection | None = None


class LaneSection(ProductionSection):
    """One lane: a part of the machine with counters and orders of its own."""


class EquipmentSection(ProductionSection):
    """One equipment. Its tags are validated against their device's driver, so they are raw here."""

    device: Name
    tags: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    state: StateSection | None = None
    lanes: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=32)], LaneSection] = {}
    download: DownloadSection | None = None
    job_control: JobControlSection | None = None
    alarms: AlarmsSection | None = None
    hold: str | None = None
    kpi: Annotated[KpiSection | None, BeforeValidator(_switched_on)] = None
