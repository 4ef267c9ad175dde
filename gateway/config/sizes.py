"""Sizes of files as people write them."""

import re
from typing import Annotated, Final

from pydantic import BeforeValidator

_UNITS: Final = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_size(value: object) -> object:
    """`500 MB` in bytes; a number is bytes already. Raises `ValueError`."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)", value.strip())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{value!r} is no size; write a number with a unit, as 500 MB or 2 GB")
    return round(float(match[1]) * _UNITS[match[2]])


Bytes = Annotated[int, BeforeValidator(parse_size)]
