"""The Modbus driver: a client that polls in blocks, on a wire of its own.

From the wire up: `framing` packs and finds frames, `wire` is one open connection, `connecting` and `serial_port` open
it, `endpoint` shares it among units, `link` is one unit at it, with its `breaker` and its budget. `requests`,
`replies`, `codec`, `planner` and `writes` are pure; `blocks` reads what was planned and learns what a device refuses;
`driver` offers the verbs. No Modbus library is used: theirs repeat writes (trap B3) and believe too much (trap B2).
"""
