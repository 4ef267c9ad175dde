"""Why a command is not taken."""

import msgspec


class Objection(msgspec.Struct, frozen=True):
    """One reason to reject: a code for machines, a sentence for people."""

    code: str
    detail: str
