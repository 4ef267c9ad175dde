"""A machine with Job Control without a wire: the simulator's list behind the core, and a gateway that may die anywhere."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from gateway.config.load import load_plant
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.values import Argument, Batch, CallResult, MethodCall, TagChange
from simulators.models.job_control import Entry, JobReceiver
from tests.drivers.job_plants import ITEMS, plant
from tests.stage import Stage

DEVICE = "url: 'opc.tcp://127.0.0.1:4840', namespace: 'urn:m', security: none"
PATH = "ACME/HZ/PACK/L1/M1"
PARAMETERS = {"FillVolume": 330.3, "Speed": 120, "rinse": True}


class JobMachine:
    """The core and the machine; times of day move with `at`."""

    def __init__(self, folder: Path, keys: str = "start: on_command", **receiver: Any) -> None:
        self.receiver = JobReceiver(**receiver)
        self.stage = Stage(plant(folder, DEVICE, keys, "3s"))
        self.stage.beating = False
        self.uncertain = False
        self.whim: Callable[[JobReceiver], object] = lambda _receiver: None
        """What the machine does by itself after each method."""
        self.bad: int | None = None
        self.strange = ""
        self.stage.connect("M1", "06:00:00")
        self.stage.show("M1", "06:00:01", state=0, job_list=self.job_list, job_capacity=self.receiver.capacity)

    @property
    def job_list(self) -> str:
        """`JobOrderList` as JSON text, `null` before the first order."""
        entries = [self._entry(entry) for entry in self.receiver.entries.values()]
        return self.strange or (msgspec.json.encode(entries).decode() if entries else "null")

    def _entry(self, entry: Entry) -> dict[str, Any]:
        number, text = self.receiver.shown(entry)
        parameters = [{"ID": name, "Value": value} for name, value in entry.parameters.items()]
        state = [{"BrowsePath": {"Elements": []}, "StateText": text, "StateNumber": number}]
        return {"JobOrder": {"JobOrderID": entry.id, "JobOrderParameters": parameters}, "State": state}

    # --- the MES ------------------------------------------------------------------------------------------------

    def download(self, order: str = "4711", cmd: str = "P-1", **items: Any) -> None:
        sent = [item | {"value": items.get(str(item["name"]), item["value"])} for item in ITEMS]
        self.stage.command("params.download", cmd=cmd, eq="M1", set="PS-1", rev="C", order=order, items=sent)

    def control(self, action: str, order: str = "4711", cmd: str = "J-1") -> tuple[str, tuple[str, ...]]:
        """Ask, and play everything to its end; the final answer."""
        self.stage.command("job.control", cmd=cmd, eq="M1", order=order, action=action)
        self.settle()
        return self.final(cmd)

    def final(self, cmd: str) -> tuple[str, tuple[str, ...]]:
        (answer,) = [answer for answer in self.stage.answers if answer.cmd == cmd and answer.final]
        return answer.answer, answer.codes

    def detail(self, cmd: str) -> str:
        (answer,) = [answer for answer in self.stage.answers if answer.cmd == cmd and answer.final]
        return "; ".join(answer.detail)

    def results(self) -> list[tuple[Any, ...]]:
        told = self.stage.told("param.result")
        return [(data["result"], tuple(data["codes"]), data["rolled_back"]) for _, data in told]

    # --- the machine --------------------------------------------------------------------------------------------

    def show(self, clock: str) -> None:
        """The subscription tells the list as it is."""
        self.stage.show("M1", clock, job_list=self.job_list)

    def act(self, operation: Operation) -> OperationResult:
        """Carry out an operation, as a device link does."""
        calls = tuple(self._call(call) for call in operation.calls)
        known = {"M1.job_list": self.job_list, "M1.job_capacity": self.receiver.capacity}
        reads = tuple(TagChange(tag, known[tag], 0, self.stage.now) for tag in operation.reads)
        return OperationResult(operation.token, reads, calls=calls)

    def _call(self, call: MethodCall) -> CallResult:
        assert self.stage.plant.devices["M1"].allowed.objection(Operation("M1", "", calls=(call,)), "M1") is None
        method = (call.component or "").rpartition(";")[2]
        if call.structure is not None:
            fields = call.structure.fields
            values = {one["ID"]: _held(one["Value"]) for one in fields["JobOrderParameters"]}
            entry = Entry(fields["JobOrderID"], values, fields)
            is_update = method == "Update"
            answer = self.receiver.update(entry) if is_update else self.receiver.store(entry, start="And" in method)
        else:
            answer = self.receiver.change(method, str(call.arguments[0].value))
        self.whim(self.receiver)
        if self.bad is not None:
            return CallResult(self.bad)
        code = answer.code(zero_is_success=self.receiver.zero_is_success)
        return CallResult(0x40000000 if self.uncertain and answer.value[0] else 0, (code,))

    def perform(self, *, lost: bool = False) -> None:
        """The next operation; with `lost` the machine carries it out, and its answer never comes."""
        operation = self.stage.operations.pop(0)
        result = self.act(operation)
        if lost:
            result = OperationResult(operation.token, lost=True)
        self.stage.core.handle_operation(result, self.stage.now)
        self.stage.commit()

    def settle(self) -> None:
        """Everything that is asked, and all deadlines of what is under way, one after the other."""
        stage = self.stage
        for _ in range(200):
            while stage.operations:
                self.perform()
            if (timer := stage.core._commands.next_timer()) is None:
                return
            stage.now = max(stage.now + 1, timer)
            stage.core.handle_deadline(stage.now)
            stage.commit()
        raise AssertionError("the core never comes to rest")

    def configure(self, folder: Path, before: str, after: str) -> None:
        """The gateway starts again with another configuration."""
        file = folder / "plant.yaml"
        file.write_text(file.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
        self.stage.plant = load_plant(folder)
        self.restart()

    def restart(self) -> None:
        """The gateway died: nothing is left but what was committed. It starts again and finds the machine."""
        stage = self.stage
        stage.operations.clear()
        stage.core = stage._core()
        stage.commit()
        stage.now += 1000
        stage.connect("M1")
        values = (("M1.state", 0), ("M1.job_list", self.job_list), ("M1.job_capacity", self.receiver.capacity))
        batch = Batch([TagChange(tag, value, 0, stage.now) for tag, value in values], stage.now)
        stage.core.handle_changes("M1", batch, stage.now)
        stage.commit()


def _held(argument: Argument) -> Any:
    """What the machine keeps of a value: a float32 is not the number that was asked for."""
    if argument.type == "float32":
        return struct.unpack("f", struct.pack("f", argument.value))[0]
    return argument.value
