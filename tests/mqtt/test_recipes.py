"""What the documents tell people to type is typed here: it must end in a broker that lets the gateway in."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.mqtt.client import MqttConnection
from gateway.mqtt.settings import MqttSettings
from tests.brokers import FOLDERS, free_port, program, until
from tests.mqtt.test_tls import listens
from tests.shipped_mosquitto import SHIPPED, ShippedMosquitto, replace_line

DOCS = Path(__file__).parents[2] / "docs"


def recipe(document: str, word: str) -> str:
    """The one block of commands in which that word stands."""
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```$", (DOCS / document).read_text(encoding="utf-8"))
    (found,) = [block for block in blocks if word in block]
    return found


def type_in(commands: str, folder: Path) -> None:
    for needed in ("openssl", "mosquitto_passwd"):
        program(needed)
    environment = {"PATH": FOLDERS, "HOME": str(folder)}
    command = ["sh", "-e", "-c", commands]
    done = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def test_certificates_made_as_the_document_says_are_taken_by_both_sides(tmp_path: Path) -> None:
    version = subprocess.run([program("openssl"), "version"], check=True, capture_output=True, text=True).stdout
    if not version.startswith("OpenSSL 3"):
        pytest.skip(f"the recipe is for OpenSSL 3, here is {version.strip()}")
    type_in(recipe("brokers.md", "sign()").replace("broker.plant.example", "localhost"), tmp_path)
    (tmp_path / "mosquitto").mkdir()
    broker, port = ShippedMosquitto(tmp_path / "mosquitto"), free_port()
    text = replace_line((SHIPPED / "tls.conf").read_text(), "listener", f"listener {port} 127.0.0.1")
    (tmp_path / "mosquitto" / "conf.d" / "tls.conf").write_text(text.replace("/etc/mosquitto/certs", str(tmp_path)))
    own = {"ca": tmp_path / "ca.pem", "certificate": tmp_path / "edge-01.pem", "key": tmp_path / "edge-01.key"}
    login = {"username": "edge-01", "password_file": broker.password_files["edge-01"]}
    settings = MqttSettings.model_validate({"client_id": "e", "host": "localhost", "port": port, "tls": own, **login})
    broker.start()
    try:
        async with MqttConnection(settings, None, modern=True) as connection:
            assert connection.peer is not None
    finally:
        broker.kill()
    verify = ["openssl", "verify", "-x509_strict", "-CAfile", str(own["ca"]), str(own["certificate"])]
    assert subprocess.run(verify, check=False, capture_output=True).returncode == 0, "as Python 3.13 looks at them"


@pytest.mark.parametrize("user", ["edge-01", "mes"])
async def test_the_broker_for_a_try_lets_in_who_was_made_for_it(tmp_path: Path, user: str) -> None:
    shutil.copytree(SHIPPED, tmp_path / "config" / "mosquitto")
    *commands, start = recipe("uplink.md", "mosquitto -c try/mosquitto.conf").splitlines()
    assert start == "mosquitto -c try/mosquitto.conf"
    type_in("\n".join(commands), tmp_path)
    configuration, port = tmp_path / "try" / "mosquitto.conf", free_port()
    configuration.write_text(replace_line(configuration.read_text(), "listener", f"listener {port} 127.0.0.1"))
    (tmp_path / "try" / "conf.d" / "root.conf").write_text("user root\n")
    password = tmp_path / "try" / f"{user}.password"
    process = subprocess.Popen([program("mosquitto"), "-c", str(configuration)], cwd=tmp_path, stderr=subprocess.PIPE)
    try:
        until(lambda: listens(port), "mosquitto listens")
        settings = MqttSettings(client_id="e", port=port, username=user, password_file=password)
        async with MqttConnection(settings, None, modern=True) as connection:
            assert connection.maximum_packet == 1_000_000
    finally:
        process.kill()
        process.communicate()
