"""Shifts that hypothesis found, each with the seed of its bad day: what they showed was mended."""

from typing import Any

from tests.golden.random_shifts import SETS

BAD_DAY = 2189029592


def _row(at: str, state: int, order: str | None = "7000", reason: int = 0) -> dict[str, Any]:
    return {"at": at, "mode": 1, "reason": reason, "starved": False, "order": order, "state": state}


LAST_SCAN_OVERTAKEN: dict[str, Any] = {
    "name": "found", "start": "2026-03-02T06:00:00Z", "end": "2026-03-02T06:21:20Z",
    "line": "ACME/HZ/PACK/L1", "debounce_s": 5, "micro_stop_s": 120, "stale_after_s": 30,
    "orders": {
        "7000": {
            "material": "P", "qty": 223, "lot": "7000-L", "ops": {"FIL01": "10", "LBL01": "20", "PAL01": "30"},
            "sets": {"FIL01": "F", "LBL01": "L"},
        },
    },
    "filler": {
        "bottles_per_s": 1, "handshake_s": 2, "scrap_windows": [], "permit": [["06:00:00", "06:16:20"]],
        "timeline": [
            _row("06:00:00", 4, None), _row("06:06:40", 6), _row("06:09:40", 11, reason=2107), _row("06:10:08", 6),
            _row("06:10:51", 4, None),
        ],
        "produced": {"max": 2147483647, "start": 2147480647}, "scrap": {"max": 2147483647, "start": 2147480647},
    },
    "labeller": {
        "transit_s": 69, "handshake_s": 2, "warm_up": ["06:00:00", "06:01:00"], "remote_from": "06:00:00",
        "permit": [], "energy": {"start_raw": 0, "kw": 36, "kwh_per_raw": 0.1},
        **{name: {"max": 65535, "start": 62535} for name in ("total_in", "good", "reject")},
    },
    "palletiser": {"bottles_per_case": 20, "cases_per_pallet": 48, "order_end": {"7000": "06:12:05"}},
    "checkweigher": {"every_s": 900, "characteristic": "w", "limits_of": "fill_volume"},
    "parameter_sets": SETS,
    "commands": [
        {"at": "06:03:20", "type": "dispatch.order", "cmd": "D7000", "order": "7000"},
        {
            "at": "06:05:00", "type": "params.download", "cmd": "C7000", "eq": "FIL01", "order": "7000", "set": "F",
            "rev": "A", "result": "ACTIVE", "done": "06:05:02",
        },
    ],
    "faults": [{"kind": "gateway_kill", "from": "06:06:45", "to": "06:07:05"}],
}  # fmt: skip
"""The labeller's order ends on the minute. The scan that shows its last piece comes after that of the next second."""
