"""What an event says, in the few words that fit behind its type on a line."""

from typing import Any, Final

COUNTERS: Final = ("produced", "good", "scrap")

MOST_FIELDS: Final = 5
"""Fields that are shown of an event that has no words of its own."""


def details(kind: str, data: dict[str, Any]) -> list[object]:
    """What matters of the events that people look for; nothing for the others."""
    match kind:
        case "equipment.state":
            return [f"{data['from'] or 'start'} → {data['to']}", data["reason"], data["cause"]]
        case "downtime.closed":
            return [data["state"], f"{data['dur_s']} s", "micro-stop" if data["micro"] else data["reason"]]
        case "order.completed":
            return [f"{name} {data[name]}" for name in COUNTERS if data[name] is not None]
        case "container.completed":
            return [data["sscc"], f"{data['qty']} pcs", "full" if data["full"] else "partial"]
        case "param.result":
            return [data["set"], f"rev {data['rev']}", data["result"], *data["codes"]]
        case "alarm.raised" | "alarm.acked" | "alarm.cleared":
            return [data["code"], data.get("text")]
        case "quality.sample":
            return [data["char"], "in spec" if data["in_spec"] else "OUT OF SPEC"]
        case "material.low":
            return [data["material"], f"{data['remaining']} left"]
        case "gateway.connection":
            return [data["device"], "up" if data["up"] else "down"]
    return []


def words(kind: str, data: dict[str, Any]) -> str:
    """One line for every event: its own words, or the first of its fields that are plain values."""
    try:
        own = [str(detail) for detail in details(kind, data) if detail not in (None, "")]
    except KeyError:  # a gateway of another version
        own = []
    if own:
        return " ".join(own)
    plain = [(key, value) for key, value in data.items() if value is not None and not isinstance(value, (dict, list))]
    shown = [f"{key} {value}" for key, value in plain[:MOST_FIELDS]]
    return ", ".join([*shown, "…"] if len(shown) < len(plain) else shown)
