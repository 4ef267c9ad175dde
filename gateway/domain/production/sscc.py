"""The Serial Shipping Container Code: 18 digits of which the last checks the others (GS1 General Specifications)."""

from typing import Final

LENGTH: Final = 18


def check_digit(digits: str) -> int:
    """What makes the weighted sum a multiple of ten: from the right the digits weigh 3, 1, 3, 1 …"""
    weighted = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits)))
    return -weighted % 10


def is_sscc(text: str) -> bool:
    """True for 18 digits with the right one at the end."""
    if len(text) != LENGTH or not (text.isascii() and text.isdecimal()):
        return False
    return check_digit(text[:-1]) == int(text[-1])


def make_sscc(prefix: str, serial: int) -> str:
    """The code of the `serial`-th container under an extension digit and a company prefix; serials wrap when full."""
    width = LENGTH - 1 - len(prefix)
    digits = f"{prefix}{serial % 10**width:0{width}}"
    return f"{digits}{check_digit(digits)}"
