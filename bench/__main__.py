# ruff: noqa: T201 - it prints what it measured
"""`make bench`: everything in one run, as the tables of docs/performance.md.

python -m bench [opcua] [core] [modbus] [commands] [backlog] [--rates 1000,10000] [--events 1000000] [--seconds 10]
"""

import argparse
from collections.abc import Sequence

from bench import backlog, commands, core, modbus, opcua

RATES = (1_000, 10_000, 50_000, 200_000, 300_000)
YARDSTICK_UP_TO = 50_000
"""Changes per second; beyond, the plain way only falls further behind."""
_COLUMNS = (
    "who", "asked/s", "arrived/s", "missing", "skipped", "µs CPU/value", "of one core", "p50 ms", "p99 ms", "MB",
    "start s",
)  # fmt: skip
SLOW_TAGS = 10_000
"""The last row: as many tags as a large line has, each changing once a second."""


def main() -> None:
    """Measure what was asked for, or all of it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="How fast the gateway is, measured whole.")
    parser.add_argument(
        "parts", nargs="*", choices=["opcua", "core", "modbus", "commands", "backlog", []], help="default: all"
    )
    parser.add_argument("--rates", default=",".join(map(str, RATES)), help="changes per second, with commas between")
    parser.add_argument("--seconds", type=float, default=10, help="of load at each rate")
    parser.add_argument("--events", type=int, default=backlog.EVENTS, help="that wait when the gateway starts")
    chosen = parser.parse_args()
    parts = chosen.parts or ["core", "modbus", "commands", "backlog", "opcua"]
    if "core" in parts:
        _core()
    if "modbus" in parts:
        _modbus()
    if "commands" in parts:
        _commands()
    if "backlog" in parts:
        _backlog(chosen.events)
    if "opcua" in parts:
        _opcua([int(rate) for rate in chosen.rates.split(",")], chosen.seconds)


def _opcua(rates: Sequence[int], seconds: float) -> None:
    print("\n## OPC UA to MQTT: server -> gateway (core, SQLite) -> mosquitto -> subscriber\n")
    _row(*_COLUMNS)
    _row(*["---"] * len(_COLUMNS))
    for rate in rates:
        tags = round(rate * opcua.INTERVAL)
        notifications = round(seconds / opcua.INTERVAL)
        ours = opcua.measure_gateway(tags, notifications)
        _figures("gateway", ours)
        if rate <= YARDSTICK_UP_TO:
            plain = opcua.measure_yardstick(tags, notifications)
            _figures("yardstick", plain)
            print(f"| | | | | | {plain.cpu_per_value / ours.cpu_per_value:.1f} times ours | | | | | |", flush=True)
    _figures(f"gateway, {SLOW_TAGS:,} tags at 1 Hz", opcua.measure_gateway(SLOW_TAGS, round(seconds), interval=1.0))


def _figures(who: str, figures: opcua.Figures) -> None:
    _row(
        who, f"{figures.asked:,.0f}", f"{figures.rate:,.0f}", figures.missing + figures.disordered, figures.skipped,
        f"{figures.cpu_per_value:.2f}", f"{figures.core:.0%}", figures.p50, figures.p99,
        f"{figures.rss / 2**20:.0f}", f"{figures.subscribed_after:.1f}",
    )  # fmt: skip


def _commands() -> None:
    print("\n## Commands: client -> mosquitto -> gateway -> mosquitto -> client\n")
    figures = commands.measure()
    _row("what", "p50 ms", "p99 ms")
    _row(*["---"] * 3)
    for what, times in (
        ("one fsync of this disk", figures.fsync),
        ("answered finally at once", figures.answer),
        ("download of one parameter, until accepted", figures.accepted),
        ("download of one parameter, until done", figures.download),
        (f"download of {commands.PARAMETERS} parameters, until done", figures.fifty),
        ("the same with a sequence number, looked at every 50 ms", figures.fifty_by_number),
    ):  # fmt: skip
        _row(what, times.p50, times.p99)
    flood = figures.flood
    told = ", ".join(f"{number:,} {answer}" for answer, number in flood.answers.most_common())
    print(f"\nA flood of {commands.FLOOD:,} commands in {flood.seconds:.1f} s: {told}.")
    grown = (flood.rss_most - flood.rss_before) / 2**20
    print(f"Resident memory {flood.rss_before / 2**20:.0f} MB before, {grown:+.0f} MB at most.")
    print(f"A download of {commands.PARAMETERS} neighbouring registers took {figures.writes} write requests.")
    pauses = f"{flood.pause_before:.0f} ms before, {flood.pause_most:.0f} ms meanwhile"
    print(f"The longest pause between two values (polled every 20 ms): {pauses}.")


def _backlog(events: int) -> None:
    print(f"\n## A gateway that starts with {events:,} events in its record\n")
    figures = backlog.measure(events)
    _row("what", "figure")
    _row("---", "---")
    _row("on disk, an event", f"{figures.bytes_per_event:.0f} bytes, of which its message {figures.payload:.0f}")
    _row("from the start of the process to the first event at the subscriber", f"{figures.first:.2f} s")
    _row("drained", f"{figures.drained:,.0f} events/s, {figures.disordered} out of order")
    _row("CPU for an event, with all that happened meanwhile", f"{figures.cpu_per_event:.0f} µs")
    _row("run parameters meanwhile", f"{figures.values:,.0f}/s")
    _row("on the wire, a run parameter", f"{figures.bytes_per_value:.1f} bytes")
    _row("resident memory, most", f"{figures.rss / 2**20:.0f} MB")
    print(f"\nLatencies in ms, while it drained ({figures.orders} orders started) and afterwards:\n")
    _row("what", "p99 meanwhile (of the worst two seconds)", "longest meanwhile", "p99 afterwards")
    _row(*["---"] * 4)
    for what in figures.meanwhile:
        _row(what, figures.meanwhile[what], figures.longest[what], figures.afterwards[what])


def _core() -> None:
    print("\n## The core: 100 machines of 100 tags, without sockets\n")
    _row("what", "values a batch", "µs CPU/value, core and checkpoint", "µs CPU/value, message bytes")
    _row(*["---"] * 4)
    for cost in core.measure():
        _row(cost.what, f"{cost.values:,}", f"{cost.core:.2f}", f"{cost.encoding:.2f}")


def _modbus() -> None:
    print("\n## Modbus TCP: the reading side alone\n")
    figures = modbus.measure()
    _row("what", "requests", "µs CPU")
    _row(*["---"] * 3)
    _row("500 tags on every fourth of 2,000 registers, one scan", figures.evenly, "")
    _row("500 tags at random places, one scan", figures.anywhere, f"{figures.scan:.0f}")
    _row("125 registers, as raw bytes", 1, f"{figures.read:.0f}")
    _row("125 registers, as values of 125 tags", 1, f"{figures.decoded:.0f}")
    _row("125 registers, polled and as before", 1, f"{figures.polled:.0f}")


def _row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
