"""Structures as another stack describes and encodes them: the status that every OPC UA server has of itself."""

from node_plants import NodeProcess, running

from gateway.domain.values import DataType
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import OpcUaAddress, OpcUaSettings
from gateway.drivers.opcua.driver import OpcUaDriver
from tests.drivers.clocks import PlantClock

STATUS = "nsu=http://opcfoundation.org/UA/;i=2256"
SINGLE = {
    "State": ("i=2259", DataType.INT32),
    "StartTime": ("i=2257", DataType.DATETIME),
    "SecondsTillShutdown": ("i=2992", DataType.UINT32),
    "BuildInfo.ProductName": ("i=2261", DataType.STRING),
    "BuildInfo.SoftwareVersion": ("i=2264", DataType.STRING),
    "BuildInfo.BuildDate": ("i=2266", DataType.DATETIME),
}
"""Fields of ServerStatus (OPC 10000-5 §12.10), and the variables that hold the same alone."""


async def test_a_field_of_a_structure_is_what_the_server_says_of_it_alone(node: NodeProcess) -> None:
    tags = [
        *(Tag(path, kind, OpcUaAddress(node=STATUS, field=path)) for path, (_, kind) in SINGLE.items()),
        *(Tag(at, kind, OpcUaAddress(node=f"nsu=http://opcfoundation.org/UA/;{at}")) for at, kind in SINGLE.values()),
    ]
    async with running(node) as plant:
        settings = OpcUaSettings(url=f"opc.tcp://127.0.0.1:{plant.port}", security="none", structures=True)
        async with OpcUaDriver("PLC", settings, tags, PlantClock()) as driver:
            told = {change.tag_id: change for change in await driver.read([tag.tag_id for tag in tags])}
    assert {change.status_code for change in told.values()} == {0}
    assert told["BuildInfo.ProductName"].value
    assert {path: told[path].value for path in SINGLE} == {path: told[at].value for path, (at, _) in SINGLE.items()}
