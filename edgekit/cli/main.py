"""The group of verbs, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence

import click

from .. import __version__

__all__ = ["VERBS", "main", "run"]

EXIT_WORLD = 3
EXIT_INTERRUPTED = 130
# Verb, and what --help says of it: the modules behind are imported when a verb runs.
VERBS = {
    "run": "Run an edgekit.toml: data, model, variants, measurement, verdict.",
    "convert": "Convert a model by recipes into .tflite variants.",
    "evaluate": "Measure how right variants are on the test split.",
    "bench": "Measure variants on a device.",
    "compare": "Compare variants, say what to ship, and gate.",
    "report": "Write report.json, report.md and report.html of a run.",
    "diagnose": "Say which layers an int8 variant loses accuracy in, and audit its calibration.",
    "recipes": "List the ways to make a variant, or show one.",
    "targets": "List the boards and chips a model can be checked and compiled for.",
    "inspect": "Show what is inside a .tflite, and what a target makes of it.",
    "compile": "Compile variants for an accelerator or a microcontroller with its own tool.",
    "device": "Name boards, set them up over SSH, look at them, collect from them.",
    "hub": "Run an inbox for the reports of boards, and collect from it.",
    "doctor": "Say what is installed, what is missing, and the line that installs it.",
}


class _Verbs(click.Group):
    """A group whose commands are imported at their first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the work."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb; an unknown name is answered with a suggestion."""
        if cmd_name not in VERBS:
            from ..errors import suggest

            ctx.fail(f"No such command {cmd_name!r}{suggest(cmd_name, VERBS)}")
        command: click.Command = importlib.import_module(f".{cmd_name}", __package__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("-v", "--verbose", is_flag=True, help="Show every log message, not only warnings.")
def edgekit(verbose: bool) -> None:
    """From a Keras model to a fast, small .tflite, measured on your own board, with a verdict.

    \b
    Example:
      edgekit run examples/digits/edgekit.toml
      edgekit convert model.keras --data digits.npz --recipe int8 --out runs/mine
      edgekit bench runs/mine && edgekit compare runs/mine --max-drop 0.01
    """
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, format="%(name)s: %(message)s")


def run() -> None:
    """Entry point of the ``edgekit`` command. A request to end is taken as an interruption: children are ended first."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.stderr is None:  # it was closed: 2>&-
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - lives as long as the process
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``argv`` and return the exit code; nothing but a bug in edgekit shows a traceback."""
    from ..errors import EdgekitError

    try:
        # Outside its standalone mode click returns the code of an Exit that a verb raised, and None where none did.
        code = edgekit.main(list(argv) if argv is not None else None, prog_name="edgekit", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted: what was finished is kept; run the same command again to go on", EXIT_INTERRUPTED)
    except EdgekitError as error:
        return _say(f"error: {error}", error.exit_code)
    except ModuleNotFoundError as error:
        return _say(
            f"error: the package {error.name!r} is not installed. See what is missing: edgekit doctor", EXIT_WORLD
        )
    except BrokenPipeError:  # whoever read our output has gone, and wants no more
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes it at exit
        return EXIT_WORLD
    except MemoryError:
        return _say("error: not enough memory. Try fewer or smaller samples, or a smaller model", EXIT_WORLD)
    except OSError as error:
        return _say(f"error: {_system_error(error)}", EXIT_WORLD)
    return code or 0


def _say(message: str, code: int) -> int:
    click.echo(f"edgekit: {message}", err=True)
    return code


def _system_error(error: OSError) -> str:
    """What the system refused, and where; temporary files are the usual victims of a full disk."""
    text = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"{text}. Free some space, or name a temporary folder on another disk: TMPDIR" if full else text
