"""How the parts of a measurement talk: a word per line on standard input, a JSON object per line on standard output."""

import json
import sys
from typing import Any


def say(what: dict[str, Any]) -> None:
    """One answer, at once."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
