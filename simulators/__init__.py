"""Simulated machines and the systems around them, to try the gateway against.

`python -m simulators --help` lists what can be started. Nothing here imports the gateway, nor the other way round: they
meet on the wire, so that an encoding mistake cannot cancel itself out.
"""
