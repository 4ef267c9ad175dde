"""A plant for measurements: machines of a hundred run parameters each, all behind one OPC UA server."""

from pathlib import Path

from bench.load_source import NAMESPACE

TAGS_PER_MACHINE = 100


def write_plant(
    folder: Path, tags: int, source_port: int, broker_port: int, *, interval: str = "100ms", machine: str = ""
) -> None:
    """The YAML of a gateway that publishes `tags` tags as run parameters.

    With `machine`, lines of YAML that begin among the tags, each machine has those and one run parameter.
    """
    per_machine = 1 if machine else TAGS_PER_MACHINE
    text = f"""\
gateway:
  id: bench
  site: BENCH/SITE
  store: {folder}/record.db
mqtt:
  host: 127.0.0.1
  port: {broker_port}
  client_id: bench
devices:
  LOAD:
    driver: opcua
    url: opc.tcp://127.0.0.1:{source_port}
    namespace: {NAMESPACE}
    security: none
    publishing_interval: {interval}
    sampling_interval: {interval}
    request_timeout: 60s
equipment:
"""
    for begin in range(0, tags, per_machine):
        text += f"  BENCH/SITE/AREA/LINE/M{begin // per_machine:04}:\n    device: LOAD\n    tags:\n"
        for place in range(begin, min(begin + per_machine, tags)):
            text += f"      t{place}: {{node: s=tag{place}, type: float64, publish: true}}\n"
        text += machine
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.yaml").write_text(text)
