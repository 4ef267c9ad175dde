"""What `gateway run --dry-run` runs on: a record of its own, and a place for what would be published."""

import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gateway.cli.usage import UsageError
from gateway.config.plant import Plant


class DryRunWish(NamedTuple):
    """Where the messages go (None: standard output), and the record (None: into a folder that is deleted)."""

    out: Path | None
    store: Path | None

    @contextmanager
    def prepared(self, plant: Plant) -> Iterator[tuple[Plant, BinaryIO]]:
        """The plant with that record, and the open file. Raises `UsageError` if they would touch the real one."""
        if self.store is not None and self.store.resolve() == Path(plant.store).resolve():
            raise UsageError(f"--store {self.store} is the gateway's own record; give the dry run another")
        with ExitStack() as stack:
            folder = self.store or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "dry-run.db"
            own = dataclasses.replace(plant, store=str(folder))
            if self.out is None:
                yield own, sys.stdout.buffer
                return
            try:
                out = stack.enter_context(self.out.open("wb"))
            except OSError as error:
                raise UsageError(f"--out {self.out}: {error.strerror}; give a file that can be written") from error
            yield own, out
