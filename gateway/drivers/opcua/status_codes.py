"""The names of OPC UA status codes, for people."""

from asyncua.ua.status_codes import code_to_name_doc


def status_name(code: int) -> str:
    """`BadNodeIdUnknown` for 0x80340000; a code that the standard does not name stays a number."""
    name, _ = code_to_name_doc.get(code, (f"0x{code:08X}", ""))
    return name
