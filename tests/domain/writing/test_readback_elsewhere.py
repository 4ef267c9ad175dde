"""Values that go through a SCADA system are believed only when the PLC behind it shows them."""

from pathlib import Path

from gateway.config.load import load_plant
from gateway.domain.operations import OperationResult
from gateway.domain.values import TagChange, WriteResult
from tests.stage import Stage, writes_of

PLANT = """\
gateway: {id: edge-01, site: ACME/HZ}
mqtt: {client_id: edge-01}
devices:
  SCADA: {driver: opcua, url: "opc.tcp://127.0.0.1:4840", namespace: urn:s, security: none}
  PLC: {driver: opcua, url: "opc.tcp://127.0.0.1:4841", namespace: urn:p, security: none}
equipment:
  ACME/HZ/A/L1/M1:
    device: SCADA
    tags:
      speed_set: {node: s=speed_set, type: int32}
      trigger: {node: s=trigger, type: bool}
      speed_now: {device: PLC, node: s=speed_now, type: int32}
    download:
      parameters: {speed: {tag: speed_set, readback: speed_now, min: 0, max: 200, class: trim}}
      handshake: {type: scada_trigger, trigger: trigger, readback_timeout: 5s, poll: 1s}
"""
HELD = {"speed_set": 100, "trigger": False, "speed_now": 100}


class Site:
    """SCADA and PLC; the script in the SCADA system hands the value on when the test says so."""

    def __init__(self, folder: Path) -> None:
        (folder / "plant.yaml").write_text(PLANT, encoding="utf-8")
        self.stage = Stage(load_plant(folder))
        self.stage.beating = False
        self.held = dict(HELD)
        self.asked: list[tuple[str, str]] = []
        for device in ("SCADA", "PLC"):
            self.stage.connect(device, "06:00:00")
        item = {"name": "speed", "value": 150}
        self.stage.command("params.download", cmd="C1", eq="M1", set="S", rev="A", items=[item])

    def perform(self, *, lost: bool = False) -> None:
        operation = self.stage.operations.pop(0)
        self.held |= writes_of(operation)
        self.asked.append((operation.device, "write" if operation.writes else "read"))
        reads = tuple(TagChange(tag, self.held[tag.split(".")[1]]) for tag in operation.reads)
        writes = tuple(WriteResult(write.tag_id, 0) for write in operation.writes)
        result = OperationResult(operation.token, lost=True)
        if not lost:
            result = OperationResult(operation.token, reads, writes)
        self.stage.core.handle_operation(result, self.stage.now)
        self.stage.commit()

    def perform_all(self) -> None:
        while self.stage.operations:
            self.perform()

    def pulse(self) -> None:
        """Up to the first look at the PLC, which is still to be carried out."""
        self.perform_all()
        self.stage.pass_time("06:00:00.500")
        self.perform()
        assert self.held["trigger"] is False
        (operation,) = self.stage.operations
        assert (operation.device, operation.reads) == ("PLC", ("M1.speed_now",))

    @property
    def ended(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(data["result"], tuple(data["codes"])) for _, data in self.stage.told("param.result")]


def test_the_plc_is_looked_at_until_it_has_the_value(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.pulse()
    site.perform()
    site.stage.pass_time("06:00:02")
    site.perform()
    assert site.ended == [], "SCADA took it long ago"
    site.held["speed_now"] = 150
    site.stage.pass_time("06:00:03")
    site.perform_all()
    assert site.ended == [("ACTIVE", ())]
    assert {device for device, what in site.asked if what == "write"} == {"SCADA"}


def test_a_plc_that_never_gets_it_means_failed_and_the_old_value_stands_in_the_scada_system(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.pulse()
    for second in range(1, 60):
        site.perform_all()
        site.stage.pass_time(f"06:00:{second:02}")
    assert site.ended == [("FAILED", ("readback",))]
    assert (site.held["speed_set"], site.held["speed_now"], site.held["trigger"]) == (100, 100, False)


def test_a_plc_out_of_reach_is_waited_for_and_then_read(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.pulse()
    site.perform(lost=True)
    site.stage.disconnect("PLC", "06:00:01")
    site.stage.pass_time("06:05:00")
    assert (site.stage.operations, site.ended) == ([], [])
    site.held["speed_now"] = 150
    site.stage.connect("PLC", "06:05:01")
    site.perform_all()
    assert site.ended == [("ACTIVE", ())]
    assert site.stage.answers[-1].answer == "done"


def test_a_plc_that_comes_back_while_the_pulse_lasts_disturbs_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.perform_all()
    assert site.held["trigger"] is True
    site.stage.disconnect("PLC", "06:00:00.100")
    site.stage.connect("PLC", "06:00:00.200")
    assert site.stage.operations == []
    site.held["speed_now"] = 150
    site.stage.pass_time("06:00:01")
    site.perform_all()
    assert site.ended == [("ACTIVE", ())]
    assert len(site.asked) == 5, "snapshot, value, trigger up, trigger down, read back"


def test_nothing_is_begun_while_the_plc_cannot_say_what_it_has(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.pulse()
    site.held["speed_now"] = 150
    site.perform_all()
    site.stage.disconnect("PLC", "06:00:05")
    item = {"name": "speed", "value": 160}
    (answer,) = site.stage.command("params.download", cmd="C2", eq="M1", set="S", rev="A", items=[item])
    assert (answer.codes, answer.detail) == (("no_contact",), ("PLC is out of reach",))
