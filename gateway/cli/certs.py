"""`gateway certs`: the certificates of the OPC UA devices. Trust is given here, by a person, and nowhere else."""

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from gateway.drivers.opcua.secure_channel.pki import Entry, Pki

certs = typer.Typer(
    help="Certificates for OPC UA: make our own, see who was met, trust or reject.", no_args_is_help=True
)

Folder = Annotated[
    Path | None, typer.Option("--pki", help="Folder with own/, trusted/ and rejected/. Default: the configuration's.")
]
Config = Annotated[Path, typer.Option("-c", "--config", help="Folder with the plant's *.yaml files.")]
Name = Annotated[str, typer.Argument(metavar="THUMBPRINT", help="SHA-256 of the certificate, as `list` shows it.")]


@certs.command()
def create(
    pki: Folder = None,
    config: Config = Path("config"),
    application_uri: Annotated[
        str | None,
        typer.Option(help="Unique among all OPC UA applications. Default: urn:<this host>:shopfloor-gateway."),
    ] = None,
    host: Annotated[list[str] | None, typer.Option(help="A name or address of this machine; may be repeated.")] = None,
) -> None:
    """Make the gateway's own key and certificate; a valid certificate is never overwritten."""
    from gateway.drivers.opcua.secure_channel.certificates import thumbprint

    with _told(), _opened(pki, config) as (opened, configured_uri):
        name = socket.gethostname()
        uri = application_uri or configured_uri or f"urn:{name}:shopfloor-gateway"
        own = opened.create(uri, host or [name], _now())
        typer.echo(f"made for {uri}: {opened.own_file}\nthumbprint {thumbprint(own.certificate)}")
        typer.echo("Trust that file at each server that the gateway connects to.")


@certs.command(name="list")
def show(pki: Folder = None, config: Config = Path("config")) -> None:
    """Show every certificate with its role, its thumbprint and the days that it has left."""
    from rich.console import Console

    with _told(), _opened(pki, config) as (opened, _):
        entries = opened.entries()
        if not entries:
            typer.echo(f"{opened.folder} holds no certificate; begin with: gateway certs create --pki {opened.folder}")
            return
        # A pipe has no width: thumbprints must come out whole to be copied.
        Console(width=None if sys.stdout.isatty() else 240, highlight=False).print(_table(entries, _now()))


@certs.command()
def trust(
    name: Annotated[str, typer.Argument(metavar="THUMBPRINT|FILE", help="Of rejected/; or a file from the device.")],
    pki: Folder = None,
    config: Config = Path("config"),
) -> None:
    """Trust a server's certificate. Compare the thumbprint with the one that the device itself shows."""
    with _told(), _opened(pki, config) as (opened, _):
        file = Path(name)
        entry = opened.trust_file(file) if file.is_file() else opened.trust(name)
        typer.echo(f"trusted from now on: {_subject(entry)} {entry.path}")


@certs.command()
def reject(name: Name, pki: Folder = None, config: Config = Path("config")) -> None:
    """Trust a certificate no longer. A link that stands is not cut; the next connect is refused."""
    with _told(), _opened(pki, config) as (opened, _):
        entry = opened.reject(name)
        typer.echo(f"no longer trusted: {_subject(entry)} {entry.path}")


@contextmanager
def _told() -> Iterator[None]:
    """Exit 1 with the sentence of what went wrong."""
    from gateway.drivers.opcua.secure_channel.certificates import CertificateError

    try:
        yield
    except CertificateError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@contextmanager
def _opened(folder: Path | None, config: Path) -> Iterator[tuple["Pki", str | None]]:
    """The folder of certificates, and the application URI if the configuration has one."""
    from gateway.drivers.opcua.secure_channel.pki import Pki

    if folder is not None:
        yield Pki(folder), None
        return
    folders, uris = _configured(config)
    if len(folders) > 1:
        typer.echo(f"the devices use several folders; say which one with --pki: {', '.join(folders)}", err=True)
        raise typer.Exit(2)
    yield Pki(Path(folders[0])), uris[0] if uris else None


def _configured(config: Path) -> tuple[list[str], list[str]]:
    """The folders and application URIs that the configuration names, each once."""
    from gateway.cli.check import show_problems
    from gateway.config.load import load_plant
    from gateway.config.problems import ConfigError
    from gateway.drivers.opcua.secure_channel.security_settings import OpcUaSecurity

    try:
        plant = load_plant(config)
    except ConfigError as error:
        show_problems(error)
        raise typer.Exit(2) from None
    devices = [device.settings for device in plant.devices.values() if isinstance(device.settings, OpcUaSecurity)]
    folders = {str(settings.pki_folder) for settings in devices} or {str(Path(plant.store).parent / "pki")}
    return sorted(folders), sorted({settings.application_uri for settings in devices if settings.application_uri})


def _table(entries: list["Entry"], now: int) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    from gateway.drivers.opcua.secure_channel.certificates import EXPIRY_NOTICE, days_left, thumbprint

    table = Table("role", "subject", "thumbprint (SHA-256)", "days left", "file")
    for entry in entries:
        if isinstance(entry.certificate, str):
            table.add_row(entry.role, f"[red]{escape(entry.certificate)}[/]", "", "", entry.path.name)
            continue
        left = days_left(entry.certificate, now)
        colour = "red" if left < 0 else "yellow" if left < EXPIRY_NOTICE else "green"
        left_shown = f"[{colour}]{left}[/]"
        table.add_row(entry.role, _subject(entry), thumbprint(entry.certificate), left_shown, entry.path.name)
    table.columns[2].overflow = "fold"
    return table


def _subject(entry: "Entry") -> str:
    from rich.markup import escape

    from gateway.drivers.opcua.secure_channel.certificates import subject

    return entry.certificate if isinstance(entry.certificate, str) else escape(subject(entry.certificate))


def _now() -> int:
    return round(time.time() * 1000)
