"""What the history of a device, told after an outage, shows of an equipment."""

from gateway.domain.equipment import EquipmentSpec
from gateway.domain.values import TagId


def is_covered(spec: EquipmentSpec, device: str, covered: frozenset[TagId]) -> bool:
    """True if a history of these tags shows all that the state rules ask of the device.

    A heartbeat need not be in it: it says that the PLC lives, and so does a history.
    """
    beats = {tag.tag_id for tag in spec.tags if tag.heartbeat_period is not None}
    return spec.state_tags.get(device, frozenset()) <= covered | beats
