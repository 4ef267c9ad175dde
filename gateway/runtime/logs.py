"""Logging that can never stop the loop: lines go through a bounded queue to a thread that writes them.

A pipe that nobody reads blocks the writer; on the loop that would freeze every device link (trap E3).
"""

import logging
import queue
import threading
from types import TracebackType
from typing import Final, Self, TextIO

import structlog

MAX_LINES: Final = 10_000


class LogThread:
    """A file-like object for structlog. Lines that do not fit any more are dropped and counted."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.write(f"{self._dropped} log lines were dropped: nobody read them" if self._dropped else "")
        try:
            self._lines.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(timeout=1)

    def write(self, text: str) -> None:
        """Queue a line for writing."""
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Nothing to do: the thread flushes."""

    def _write(self) -> None:
        while (text := self._lines.get()) is not None:
            try:
                self._out.write(text)
                if self._lines.empty():
                    self._out.flush()
            except (OSError, ValueError):
                return


def configure_logging(out: LogThread, *, as_json: bool) -> None:
    """One structlog line per transition; libraries only speak up from WARNING on (asyncua logs passwords at DEBUG)."""
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(file=out),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(asctime)s [%(levelname)s] %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
