"""For whom a device is written to, as the audit tells it: of downloads, holds and acknowledgements."""

from gateway.domain.contract.requests import AlarmAck, ParamsDownload, QualityHold, QualityRelease
from gateway.domain.operations import Operation, Purpose
from gateway.domain.writing.download_memory import DownloadMemory
from gateway.domain.writing.download_spec import DownloadSpec
from gateway.domain.writing.write_safety import Confirming


def of_download(memory: DownloadMemory, spec: DownloadSpec, operation: Operation) -> Purpose:
    """A step of a download. What the device held before is known on the way there, by the snapshot."""
    if not operation.changes:
        return Purpose()
    old = {} if memory.is_rolling_back else {spec.parameters[n].tag_id: value for n, value in memory.snapshot.items()}
    step = memory.step.lower()
    return Purpose(
        cmd=memory.cmd, type=memory.type, order=memory.order, by=memory.by, corr=memory.corr, old=old,
        action=f"rollback: {step}" if memory.is_rolling_back else step,
    )  # fmt: skip


def of_end(about: ParamsDownload | DownloadMemory) -> Purpose:
    """The end of a download, or that it never began."""
    return Purpose(cmd=about.cmd, type=about.type, order=about.order, by=about.by, corr=about.corr)


def of_hold(command: QualityHold | QualityRelease, order: str | None) -> Purpose:
    """Setting or clearing the hold bit of the machine that runs that order; None: of any."""
    action = "hold" if isinstance(command, QualityHold) else "release"
    return Purpose(cmd=command.cmd, type=command.type, order=order, corr=command.corr, action=action)


def of_confirmation(asked: Confirming) -> Purpose:
    """A person stands for what a machine holds."""
    return Purpose(cmd=asked.cmd, type=asked.type, by=asked.by, corr=asked.corr, action="confirm")


def of_acknowledgement(command: AlarmAck) -> Purpose:
    """Acknowledging or confirming an alarm for a person."""
    action = "confirm" if command.confirm else "acknowledge"
    return Purpose(cmd=command.cmd, type=command.type, by=command.user.strip(), corr=command.corr, action=action)
