"""One checkpoint of a record that no gateway holds at the moment."""

from pathlib import Path

from gateway.store.record_file import RecordFile


def checkpoint(path: Path, key: str) -> bytes | None:
    """What the record remembers under that key; None without a record or such a key.

    Raises `StoreError` while a gateway runs on it: a record has one user at a time.
    """
    if not path.is_file():
        return None
    record = RecordFile(path, "", mend=False)
    try:
        record.open()
        return record.checkpoints().get(key)
    finally:
        record.close()
