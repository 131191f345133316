"""The command line: one thin file a command. Commands are imported when they are called, so `--help` starts at once."""

from __future__ import annotations

import errno
import importlib
import io
import os
import re
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn, TextIO

import click

from onnxcal.errors import OnnxcalError
from onnxcal.report.printable import SPELLED, printable
from onnxcal.version import __version__

_LONG_WORD = re.compile(r"\S{1000,}")  # names in models may be of any length

COMMANDS = {
    "inspect": "What heads a model has, how each ends, and whether it is patched.",
    "calibrate": "Fit a temperature on a model's own logits, patch it in, and verify the result.",
    "build": "Make the calibrated models that an onnxcal.toml declares, where something changed.",
    "logits": "Run a model over labelled data and keep its logits.",
    "fit": "Fit a calibrator on stored logits.",
    "patch": "Put a known temperature into a model.",
    "export": "Convert a calibrated model for another runtime, and verify it there.",
    "verify": "Run a patched model and check that it is what its calibration says.",
    "check": "Check calibrated models by themselves, without data: for commit hooks.",
    "diff": "What a patch changed in a file, node by node and byte by byte, and whether anything else did.",
    "evaluate": "Accuracy, NLL, ECE and Brier score of a model as it stands.",
    "plot": "Draw a model before and after calibration: reliability, confidence, risk and more.",
    "set-temperature": "Change T in a patched model, in place, without fitting again.",
    "revert": "Take the patch out again.",
    "runtimes": "What other runtimes a model can be checked in, and how to install them.",
    "demo": "Calibrate a bundled network on bundled data, and see what changes.",
    "completion": "Print the completion script for a shell.",
}


class Commands(click.Group):
    """The commands by name, each in the module of that name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the contract."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"onnxcal.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: onnxcal demo",
)
@click.version_option(__version__, message="onnxcal %(version)s")
def cli() -> None:
    """Temperature scaling for ONNX classifiers: from validation logits to a verified model file."""


def main() -> NoReturn:
    """Run the command line; every way out of it has an exit code of the contract."""
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=SPELLED)  # a terminal that has no ± or → shows +- and ->
    stdout = sys.stdout
    try:
        cli.main(prog_name="onnxcal", standalone_mode=False)
        sys.stdout.flush()
    except OnnxcalError as error:
        if error.exit_code == 1 and "--json" in sys.argv:
            from onnxcal.report.json import as_text, refusal

            click.echo(as_text(refusal(error)))
        _fail(str(error) + (error.details if _verbose() else ""), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "onnxcal"
        said = " ".join(error.format_message().split())  # click lists choices one a line
        _fail(f"{said.rstrip('.')}\n  hint: {where} --help lists what can be passed", 2)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted; nothing half-written is left", 130)
    except SystemExit as error:
        if sys.stdout is not stdout:  # click has put it away: a pipe that nobody reads any more
            sys.exit(0)
        raise error
    except MemoryError:
        _fail(
            "there is not enough memory\n  hint: pass a smaller --batch-size, or .npy data, which is not loaded whole",
            2,
        )
    except OSError as error:
        if error.errno == errno.EPIPE:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  nobody reads any more
            sys.exit(0)
        if _verbose():
            raise
        _silence(sys.stdout)
        _fail(f"{error.strerror or error}\n  hint: check the disk, the terminal and the files that were passed", 2)
    except Exception as error:
        if _verbose():
            raise
        _fail(
            f"internal error: {type(error).__name__}: {error}\n"
            "  hint: this is a bug in onnxcal; rerun with -v for the traceback, and report it",
            2,
        )
    sys.exit(0)


def _verbose() -> bool:
    """Read from the arguments, for a command that failed early has parsed none."""
    return any(argument == "--verbose" or re.fullmatch("-[qv]*v[qv]*", argument) for argument in sys.argv[1:])


def _silence(stream: TextIO) -> None:
    """Keep the interpreter from failing once more on what it could not write."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(message: str, code: int) -> NoReturn:
    message = _LONG_WORD.sub(lambda word: f"{word[0][:100]}… ({len(word[0]):,} characters)", message)
    click.echo("\n".join(printable(line) for line in f"onnxcal: error: {message}".split("\n")), err=True)
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
