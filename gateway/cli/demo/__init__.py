"""`gateway demo`: three simulated machines, a broker, an MES and the gateway, each in a process of its own."""

from gateway.cli.demo.play import run_demo

__all__ = ["run_demo"]
