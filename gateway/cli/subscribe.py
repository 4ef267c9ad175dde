"""`gateway subscribe`: everything that gateways publish, each event once, with proof of what is missing."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from gateway.cli.following import Follower, milliseconds
from gateway.cli.subscribe_output import Record, summarise, tell_result
from gateway.cli.usage import UsageError, exit_code
from gateway.config.load import load_plant
from gateway.consumer.memory import Memory, load, recall, remember, save
from gateway.consumer.reconcile import Reconciler
from gateway.consumer.topics import SITES, filters, sites_of, status_filters
from gateway.mqtt.client import BrokerLost, MqttConnection
from gateway.mqtt.credentials import password_from_file
from gateway.mqtt.settings import BrokerSettings, MqttSettings

Settings = TypeVar("Settings", bound=BrokerSettings)

KEPT: Final = 7 * 86_400
"""Seconds for which the broker keeps messages for a consumer that has a state file."""

KEPT_BRIEFLY: Final = 3_600
"""The same for one without: it keeps nothing over its end, only over a lost connection."""

LOOK: Final = 0.1
"""Seconds between two looks whether all is here, with `--once`."""

PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


class TlsFiles(NamedTuple):
    """Whom we believe, and who we are: options of the command, for a broker that stands in no configuration."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class Wish(NamedTuple):
    """The options of the command."""

    broker: str | None
    config: Path | None
    equipment: Sequence[str]
    as_json: bool
    state: Path | None
    once: bool
    seconds: float | None
    root: str
    user: str | None
    password_file: Path | None
    tls: TlsFiles


class Source(NamedTuple):
    """Where to hear what: the broker, the root of the topics, the sites, the equipment that was chosen (None: all)."""

    settings: MqttSettings
    root: str
    sites: Sequence[str]
    places: Sequence[str] | None

    @property
    def filters(self) -> tuple[list[str], list[str]]:
        """Of the messages, and of the status of gateways."""
        return filters(self.root, self.sites, self.places), status_filters(self.root, self.sites)


def subscribe_to(wish: Wish) -> int:
    """0 if nothing is missing at the end, 1 if something is, 2 if the wish cannot be fulfilled."""
    return exit_code("subscribe", lambda: _subscribe(wish))


def _subscribe(wish: Wish) -> int:
    source = from_config(wish) if wish.broker is None else from_address(wish)
    if wish.password_file is not None:
        _look_at(wish.password_file)
    try:
        memory = load(wish.state) if wish.state is not None else None
    except ValueError as error:
        raise UsageError(str(error)) from None
    if memory is None:
        memory = Memory(f"subscribe-{uuid.uuid4().hex[:12]}", source.root)
    elif memory.root != source.root:
        raise UsageError(f"{wish.state} is of topics below {memory.root}, not {source.root}; give another --state")
    try:
        return asyncio.run(_follow(wish, source, memory))
    except BrokenPipeError:
        # Whoever read the lines has enough, as `head` has. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


async def _follow(wish: Wish, source: Source, memory: Memory) -> int:
    reconciler = Reconciler(f"sub-{uuid.uuid4().hex[:12]}", source.places)
    recall(memory, reconciler, milliseconds())
    settings = source.settings.model_copy(update={"client_id": memory.client_id})
    keep_state = _keeper(wish.state, memory, reconciler)
    keep_state()  # whether the file can be written shows now, and not with the first message
    record = Record(as_json=wish.as_json, keep=keep_state)
    follower = Follower(
        settings, source.root, reconciler, record, filters=source.filters,
        keep=KEPT if wish.state is not None else KEPT_BRIEFLY,
    )  # fmt: skip
    await _until_enough(follower, wish)
    record.keep()  # what a connection brought that was lost since
    if wish.state is None:
        await asyncio.gather(*map(_forget, follower.met.values()))
    if not follower.met:
        tell_result("no broker let us in, so nothing is known")
        return 1
    if not follower.has_heard:
        tell_result(
            f"no gateway was heard below {source.root}, not even its status; is that what topics begin with (--root), "
            "and may this user read them?"
        )
        return 1
    summarise(reconciler)
    return 0 if reconciler.missing == reconciler.roll_call.open == 0 else 1


async def _until_enough(follower: Follower, wish: Wish) -> None:
    """Until Ctrl-C, the end of the time that was given, or, with `--once`, until all is here."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if wish.seconds is not None:
        loop.call_later(wish.seconds, stop.set)
    await follower.run(stop, once=wish.once)


def _keeper(file: Path | None, memory: Memory, reconciler: Reconciler) -> Callable[[], None]:
    """What makes safe what came: the state file, if there is one, and the record before it."""
    if file is None:
        return lambda: None

    def keep() -> None:
        with suppress(OSError):  # a terminal or a pipe, of which nothing is on a disk
            os.fsync(sys.stdout.fileno())
        save(file, remember(reconciler, memory.client_id, memory.root))

    return keep


async def _forget(settings: MqttSettings) -> None:
    """Let a broker keep nothing for a name that nobody bears any more."""
    for modern in (True, False) if settings.protocol == "auto" else (settings.protocol == "5",):
        with suppress(BrokerLost):
            async with MqttConnection(settings, None, modern=modern):
                return


def from_config(wish: Wish) -> Source:
    """A plant's broker, its site and its equipment. Raises `UsageError`, `ConfigError`."""
    if any(wish.tls):
        raise UsageError("--ca, --certificate and --key are for --broker; with -c those of the configuration are taken")
    plant = load_plant(wish.config or Path("config"))
    paths = {name: path for spec in plant.equipment for name, path in ((spec.unit, spec.path), (spec.path, spec.path))}
    unknown = [name for name in wish.equipment if name not in paths]
    if unknown:
        raise UsageError(f"{unknown[0]} is not configured; the equipment is: {', '.join(sorted(set(paths.values())))}")
    places = [paths[name] for name in wish.equipment] or None
    return Source(_as_user(plant.mqtt, _login(wish)), plant.topic_root, [plant.site], places)


def from_address(wish: Wish) -> Source:
    """A broker of which nothing is known but where it is. Raises `UsageError`."""
    assert wish.broker is not None
    try:
        url = urlsplit(wish.broker)
        scheme, host, port = url.scheme, url.hostname, url.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in PORTS or not host or url.username is not None or url.path not in ("", "/"):
        raise UsageError("--broker is mqtt://<host>:<port>, or mqtts://… for TLS; a user goes to --user")
    short = [name for name in wish.equipment if name.count("/") < 2]
    if short:
        raise UsageError(f"--eq {short[0]}: write the whole path, as in ACME/HZ/PACK/L1/FIL01, or give -c")
    tls = wish.tls._asdict() if scheme == "mqtts" else None
    if tls is None and any(wish.tls):
        raise UsageError("--ca, --certificate and --key are for TLS; write mqtts:// in --broker")
    settings = _checked(
        MqttSettings,
        {"host": host, "port": port or PORTS[scheme], "tls": tls, "client_id": "subscribe", **_login(wish)},
    )
    places = list(wish.equipment) or None
    return Source(settings, wish.root, sites_of(places) if places else SITES, places)


def _login(wish: Wish) -> dict[str, Any]:
    """Who we are, where that is not the gateway itself."""
    if (wish.user is None) != (wish.password_file is None):
        raise UsageError("--user and --password-file go together; give both or neither")
    if wish.user is None:
        return {}
    nothing = {"password_env": None, "password_credential": None}
    return {"username": wish.user, "password_file": wish.password_file, **nothing}


def _look_at(password_file: Path) -> None:
    """What is wrong with it shows now, and not with every try to connect."""
    try:
        password_from_file(password_file)
    except OSError as error:
        raise UsageError(f"--password-file: {error}") from None


def _as_user(settings: MqttSettings, login: dict[str, Any]) -> MqttSettings:
    """The same brokers, each with another user."""
    if not login:
        return settings
    brokers = [{key: getattr(one, key) for key in BrokerSettings.model_fields} for one in settings.choices()]
    changed = tuple(_checked(BrokerSettings, {**one, **login}) for one in brokers)
    return settings.model_copy(update={"brokers": changed})


def _checked(model: type[Settings], given: dict[str, Any]) -> Settings:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        told = [f"{'.'.join(map(str, one['loc']))} {one['msg']}".strip() for one in error.errors(include_input=False)]
        raise UsageError("; ".join(told).replace("Value error, ", "")) from None
