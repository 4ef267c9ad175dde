"""The subcommands. Each does one thing and says in words how it went; what they need is imported when it is used."""

from pathlib import Path
from typing import Annotated

import typer

from gateway import __version__
from gateway.cli.audit import audit
from gateway.cli.certs import certs
from gateway.cli.counter import counter
from gateway.cli.lock import lock, unlock
from gateway.cli.store import store as record

app = typer.Typer(
    name="gateway",
    help="Shop-floor gateway: PLC and SCADA tags to MES orders, counts and states over MQTT, parameter sets back down.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(audit, name="audit")
app.add_typer(certs, name="certs")
app.add_typer(counter, name="counter")
app.add_typer(record, name="store")

ConfigFolder = Annotated[
    Path, typer.Option("-c", "--config", help="Folder with the plant's *.yaml files.", show_default=True)
]

TagNames = Annotated[
    list[str] | None, typer.Argument(metavar="[TAG…]", help="FIL01.state, or a pattern: 'FIL01.*'. Default: all.")
]


@app.command()
def run(
    config: ConfigFolder = Path("config"),
    play: Annotated[
        str | None,
        typer.Option(help="Run on a played scenario's clock: START@EPOCHxRATE, as the simulators print it."),
    ] = None,
    report: Annotated[bool, typer.Option(help="Print the gateway's own figures as JSON lines.")] = False,
    log_json: Annotated[bool, typer.Option(help="Log as JSON lines, for a collector.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and map, but publish nothing and write to no device.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="With --dry-run: the file for what would be published. Default: standard output."),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="With --dry-run: a record to keep. Default: one that is forgotten at the end.")
    ] = None,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    from gateway.cli.dry_run import DryRunWish
    from gateway.cli.run import run_gateway

    wish = DryRunWish(out, store) if dry_run or out is not None or store is not None else None
    if wish is not None and not dry_run:
        typer.echo(
            "run: --out and --store are for --dry-run; a gateway's own record is gateway: store: in YAML", err=True
        )
        raise typer.Exit(2)
    raise typer.Exit(run_gateway(config, play, report=report, log_json=log_json, dry_run=wish))


@app.command()
def check(
    config: ConfigFolder = Path("config"),
    connect: Annotated[
        bool,
        typer.Option(
            "--connect",
            help="Then ask every device for its tags, every broker for our rights; exit 1 if one is not right.",
        ),
    ] = False,
) -> None:
    """Check the configuration without touching any device: every error of all files at once. Exit 2 if there is one."""
    from gateway.cli.check import check_config

    raise typer.Exit(check_config(config, connect=connect))


app.command()(lock)
app.command()(unlock)


@app.command()
def read(tags: TagNames = None, config: ConfigFolder = Path("config")) -> None:
    """Read tags from their devices: value, status, source time, raw value. Exit 1 if one is not good."""
    from gateway.cli.read import read_tags

    raise typer.Exit(read_tags(config, tags or []))


@app.command()
def watch(tags: TagNames = None, config: ConfigFolder = Path("config")) -> None:
    """Show changes as the devices tell them, until Ctrl-C: a table on a terminal, lines in a pipe."""
    from gateway.cli.watch import watch_tags

    raise typer.Exit(watch_tags(config, tags or []))


@app.command()
def browse(
    url: Annotated[str | None, typer.Argument(help="opc.tcp://<host>:<port>, or leave out and give --device.")] = None,
    *,
    device: Annotated[str | None, typer.Option(help="A device of the configuration, with its security.")] = None,
    config: ConfigFolder = Path("config"),
    start: Annotated[
        str | None, typer.Option("--from", help="The node below which to look: nsu=<uri>;s=… Default: all objects.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option("--filter", help="Only variables whose path or node matches, as in '*/Admin/*'.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a table that Excel opens.")] = None,
    yaml: Annotated[Path | None, typer.Option(help="Write tags to paste into an equipment.")] = None,
    security: Annotated[
        str | None, typer.Option(help="For an address: the word that a device has under security: in YAML.")
    ] = None,
) -> None:
    """Show what an OPC UA server has: nodes by namespace URI, types, rights, values. Exit 1 if it is out of reach."""
    from gateway.cli.browse import Wish, browse_server

    raise typer.Exit(browse_server(Wish(url, device, config, start, pattern, csv, yaml, security)))


@app.command()
def subscribe(
    broker: Annotated[
        str | None, typer.Option(help="mqtt://<host>:<port>, or mqtts://… for TLS. Default: the configuration's.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Folder with the plant's *.yaml files. Default: config.")
    ] = None,
    eq: Annotated[
        list[str] | None, typer.Option(help="Only this equipment: its path, or with -c its unit. May be repeated.")
    ] = None,
    *,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Each event as the JSON that came, one a line.")] = False,
    state: Annotated[
        Path | None, typer.Option(help="A file that remembers what came, so that the next run goes on from there.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="End when all that the broker has for us is here, and what is missing came.")
    ] = False,
    seconds: Annotated[float | None, typer.Option("--for", min=0, help="End after so many seconds.")] = None,
    root: Annotated[str, typer.Option(help="With --broker: what all topics begin with.")] = "mfg/v1",
    user: Annotated[str | None, typer.Option(help="Who we are at the broker; needs the right to write cmd.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="The user's password, in a file of mode 0600.")] = None,
    ca: Annotated[
        Path | None, typer.Option(help="With mqtts://: the authority that signed the broker's certificate. PEM.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="With mqtts://: the certificate that we show, if the broker wants one. PEM.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The key of that certificate, in a file of mode 0600. PEM.")] = None,
) -> None:
    """Hear everything that gateways publish: each event once, in order; ask for what is missing. Exit 1 if some is."""
    from gateway.cli.subscribe import TlsFiles, Wish, subscribe_to

    tls = TlsFiles(ca, certificate, key)
    wish = Wish(broker, config, eq or [], jsonl, state, once, seconds, root.strip("/"), user, password_file, tls)
    raise typer.Exit(subscribe_to(wish))


@app.command()
def demo(
    seconds: Annotated[
        float | None, typer.Option("--for", help="Stop after so many seconds of your time instead of at the end.")
    ] = None,
    broker: Annotated[
        str | None, typer.Option(help="Use this broker instead of the embedded one: mqtt://host:port")
    ] = None,
    speed: Annotated[float, typer.Option(min=1, max=100, help="How many times as fast as real time.")] = 20,
) -> None:
    """Three simulated machines, a broker, an MES and this gateway, live; exit 0 only if every figure is right."""
    from gateway.cli.demo import run_demo

    raise typer.Exit(run_demo(seconds, broker, speed))


@app.command()
def contract(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of YAML.")] = False,
) -> None:
    """Print every topic and message as an AsyncAPI 3 document: to generate from, and to validate against."""
    from gateway.cli.contract import print_contract

    raise typer.Exit(print_contract(as_json=as_json))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point."""
    app()
