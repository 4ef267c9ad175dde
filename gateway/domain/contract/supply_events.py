"""What is told of material on its way."""

from typing import Annotated, ClassVar

from msgspec import Meta

from gateway.domain.contract.event_data import EventData, UtcTime


class MaterialShortageRisk(EventData, frozen=True, kw_only=True):
    """The material that is announced comes later than the container on the machine lasts; once per container."""

    type: ClassVar = "material.shortage_risk"
    key: ClassVar = ("material", "container")

    material: str
    container: int
    runs_out: Annotated[UtcTime, Meta(description="as estimated when the container was called off")]
    eta: UtcTime
    dock: str | None
