"""The process of node that all tests against node-opcua share: its start is what takes longest."""

from collections.abc import Iterator

import pytest
from node_plants import NodeProcess


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    process = NodeProcess(tmp_path_factory.mktemp("node_opcua"))
    yield process
    process.close()
