"""A record that goes on under a new epoch counts its messages from 1 again; all else that it remembers stays."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.domain.core import TELEMETRY_KEY


def renumbered(checkpoints: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same checkpoints with every sequence at its beginning; records of the past have none.

    Raises `msgspec.DecodeError` for what is not JSON.
    """
    return {
        key: blob if "|" in key else msgspec.json.encode(_from_one(key, msgspec.json.decode(blob)))
        for key, blob in checkpoints.items()
    }


def _from_one(key: str, memory: Any) -> Any:
    if key == TELEMETRY_KEY:
        return {}
    if isinstance(memory, dict):
        for counted in (memory, *(memory.get("lanes") or {}).values()):
            if isinstance(counted, dict) and "sequence" in counted:
                counted["sequence"] = {}
    return memory
