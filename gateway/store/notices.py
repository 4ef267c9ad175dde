"""What must yet be told by an event, kept in the file until the event is in it too."""

import sqlite3
from typing import Final

import msgspec

from gateway.domain.uplink import DroppedMessages, Notice, NumberedNotice, QuarantinedMessages

_decode: Final = msgspec.json.Decoder(Notice)


class Notices:
    """The table `notice`. Methods that write run inside a transaction of `RecordFile`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.is_empty = True

    def load(self) -> None:
        """Whatever was taken before, and is still there, was not told: a crash came between."""
        self._connection.execute("UPDATE notice SET taken = 0 WHERE taken = 1")
        self.look()

    def look(self) -> None:
        """See whether there are any."""
        self.is_empty = self._connection.execute("SELECT 1 FROM notice WHERE taken = 0 LIMIT 1").fetchone() is None

    def add(self, notice: Notice) -> None:
        """Note it; what continues a notice that was not taken yet becomes one with it."""
        self.is_empty = False
        key = _key(notice)
        statement = "SELECT id, data FROM notice WHERE taken = 0 AND key = ? ORDER BY id DESC LIMIT 1"
        found = self._connection.execute(statement, (key,)).fetchone()
        joined = _joined(_decode.decode(found[1]), notice) if found is not None else None
        if joined is not None:
            self._connection.execute("UPDATE notice SET data = ? WHERE id = ?", (msgspec.json.encode(joined), found[0]))
            return
        self._connection.execute("INSERT INTO notice (key, data) VALUES (?, ?)", (key, msgspec.json.encode(notice)))

    def take(self, most: int) -> list[NumberedNotice]:
        """The oldest that were not taken yet."""
        rows = self._connection.execute("SELECT id, data FROM notice WHERE taken = 0 ORDER BY id LIMIT ?", (most,))
        taken = [NumberedNotice(number, _decode.decode(data)) for number, data in rows]
        self._connection.executemany("UPDATE notice SET taken = 1 WHERE id = ?", [(one.number,) for one in taken])
        self.is_empty = len(taken) < most
        return taken

    def strike_off(self, numbers: list[int]) -> None:
        """Their events are in the same transaction."""
        self._connection.executemany("DELETE FROM notice WHERE id = ?", [(number,) for number in numbers])


def _key(notice: Notice) -> str:
    match notice:
        case DroppedMessages():
            return f"dropped {notice.stream} {notice.equipment}"
        case QuarantinedMessages():
            return f"quarantined {notice.topic} {notice.reason}"
        case _:
            return "salvaged"


def _joined(first: Notice, second: Notice) -> Notice | None:
    """Both as one, None where they must be told apart."""
    match first, second:
        case DroppedMessages(), DroppedMessages() if second.from_seq == first.to_seq + 1:
            return msgspec.structs.replace(
                first, to_seq=second.to_seq, messages=first.messages + second.messages, last_at=second.last_at
            )
        case QuarantinedMessages(), QuarantinedMessages():
            return msgspec.structs.replace(
                first, messages=first.messages + second.messages, last=second.last, last_at=second.last_at
            )
        case _:
            return None
