"""Certificates that end soon are announced, from 30 days before on: whoever must renew one at a PLC needs the time.

Own ones and those of devices are files. A broker's is looked at where it is, at each broker of the list: one of second
choice, whose certificate nobody sees until it is needed, is the one that will have expired by then.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509

from gateway.config.plant import Plant
from gateway.domain.values import Timestamp
from gateway.drivers.base import Clock
from gateway.drivers.opcua.secure_channel.certificate_files import read_certificate
from gateway.drivers.opcua.secure_channel.certificates import CertificateError, Expiring, expiring, first_of_chain
from gateway.drivers.opcua.secure_channel.pki import Pki
from gateway.drivers.opcua.secure_channel.security_settings import OpcUaSecurity
from gateway.mqtt.settings import MqttSettings
from gateway.mqtt.tls import reason_of
from gateway.mqtt.visits import certificate_of

log = structlog.get_logger()

PERIOD: Final = 3600.0
"""Seconds of plant time between two looks; that each is told once a day is the core's affair."""


async def watch_certificates(
    plant: Plant, clock: Clock, tell: Callable[[Expiring], None], *, visit_brokers: bool = True
) -> None:
    """Tell of certificates that end soon, now and every hour; at once done where there are none to be watched.

    Of those of the gateway, of those that it trusts, and, if it is to visit them, of those that brokers show.
    """
    folders, shown = certificate_folders(plant), certificates_shown(plant)
    brokers = [broker for broker in plant.mqtt.choices() if broker.tls is not None] if visit_brokers else []
    distrusted: set[str] = set()
    while folders or shown or brokers:
        try:
            found = await asyncio.to_thread(_look, folders, shown, round(time.time() * 1000))
        except CertificateError as error:
            log.warning("certificates cannot be watched", reason=str(error))
            found = []
        met = await asyncio.gather(*(_meet(broker, distrusted) for broker in brokers))
        found += expiring([certificate for certificate in met if certificate is not None], round(time.time() * 1000))
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


async def _meet(broker: MqttSettings, distrusted: set[str]) -> x509.Certificate | None:
    """What a broker shows; None where it is not there, which is the link's affair, or cannot prove who it is.

    The latter is said, each reason once: at a broker of second choice nobody else would notice it in time.
    """
    try:
        return first_of_chain(await certificate_of(broker))
    except ssl.SSLCertVerificationError as error:
        reason = f"broker {broker.place}: {reason_of(error, broker)}"
        if reason not in distrusted:
            log.warning("a broker cannot prove who it is", reason=reason)
            distrusted.add(reason)
    except (OSError, CertificateError):
        pass
    return None


def _look(folders: Iterable[Path], shown: Iterable[Path], now: Timestamp) -> list[Expiring]:
    entries = [entry for folder in folders for entry in Pki(folder).entries()]
    in_use = [entry for entry in entries if entry.role != "rejected" and not entry.is_replaced]
    certificates = [entry.certificate for entry in in_use if not isinstance(entry.certificate, str)]
    return expiring([*certificates, *map(read_certificate, shown)], now)
