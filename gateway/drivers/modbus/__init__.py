"""The Modbus driver: a client that polls in blocks, on pymodbus's transport and framing.

`codec`, `planner`, `writes` and `replies` are pure; `link` is the connection; `blocks` reads what was planned and
learns what a device refuses; `driver` offers the three verbs.
"""
