"""How a command says that it was asked for something impossible, and keeps the drivers' log out of its answer."""

import logging
import sys
from collections.abc import Callable

import structlog
import typer

from gateway.cli.check import show_problems
from gateway.config.problems import ConfigError


class UsageError(Exception):
    """What was asked for cannot be done; the text says what would be right."""


def exit_code(name: str, command: Callable[[], int]) -> int:
    """What the command returns; 2, with every reason on standard error, where it cannot be carried out."""
    _quieten_logs()
    try:
        return command()
    except ConfigError as error:
        show_problems(error)
    except UsageError as error:
        typer.echo(f"{name}: {error}", err=True)
    except OSError as error:
        if error.filename is None:
            raise
        typer.echo(f"{name}: {error.filename}: {error.strerror}; give a file that can be written", err=True)
    return 2


def _quieten_logs() -> None:
    """Whatever a driver would log is in the answer: a status, or the reason why a device is out of reach."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
