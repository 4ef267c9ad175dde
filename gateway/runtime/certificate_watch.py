"""Certificates that end soon are announced, from 30 days before on: whoever must renew one at a PLC needs the time."""

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import structlog

from gateway.config.plant import Plant
from gateway.domain.values import Timestamp
from gateway.drivers.base import Clock
from gateway.drivers.opcua.certificate_files import read_certificate
from gateway.drivers.opcua.certificates import CertificateError, Expiring, expiring
from gateway.drivers.opcua.pki import Pki
from gateway.drivers.opcua.security_settings import OpcUaSecurity

log = structlog.get_logger()

PERIOD: Final = 3600.0
"""Seconds of plant time between two looks; that each is told once a day is the core's affair."""


async def watch_certificates(plant: Plant, clock: Clock, tell: Callable[[Expiring], None]) -> None:
    """Tell of own and trusted certificates that end soon, now and every hour; at once done where there are none."""
    folders, shown = certificate_folders(plant), certificates_shown(plant)
    while folders or shown:
        try:
            found = await asyncio.to_thread(_look, folders, shown, round(time.time() * 1000))
        except CertificateError as error:
            log.warning("certificates cannot be watched", reason=str(error))
        else:
            for finding in found:
                tell(finding)
        await clock.sleep(PERIOD)


def certificate_folders(plant: Plant) -> list[Path]:
    """The folders of certificates that the plant's devices use, each once."""
    used = [device.settings for device in plant.devices.values() if isinstance(device.settings, OpcUaSecurity)]
    return sorted({settings.pki_folder for settings in used if settings.security != "none"})


def certificates_shown(plant: Plant) -> list[Path]:
    """The files of the certificates that the gateway shows to brokers, each once."""
    brokers = [broker.tls for broker in plant.mqtt.choices()]
    return sorted({tls.certificate for tls in brokers if tls is not None and tls.certificate is not None})


def _look(folders: Iterable[Path], shown: Iterable[Path], now: Timestamp) -> list[Expiring]:
    entries = [entry for folder in folders for entry in Pki(folder).entries()]
    in_use = [entry for entry in entries if entry.role != "rejected" and not entry.is_replaced]
    certificates = [entry.certificate for entry in in_use if not isinstance(entry.certificate, str)]
    return expiring([*certificates, *map(read_certificate, shown)], now)
