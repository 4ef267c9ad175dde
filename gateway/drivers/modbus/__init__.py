"""The Modbus driver: a client that polls in blocks, on a wire of its own.

From the wire up: `framing` packs and finds frames, `wire` is one open connection, `connecting`, `tls` and
`serial_port` open it, `endpoint` shares it among units, `link` is one unit at it, with its `breaker` and its `budget`.
`requests`, `replies`, `codec`, `planner`, `writes`, `checksum` and the YAML's `checks` are pure; `blocks` reads what
was planned and learns what a device refuses, `writer` writes; `driver` offers the verbs. pymodbus builds requests and
headers; its client is not used, for it repeats writes (trap B3) and believes too much (trap B2).
"""
