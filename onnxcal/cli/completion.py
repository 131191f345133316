"""`onnxcal completion`."""

from __future__ import annotations

import click


@click.command("completion", epilog='Example: eval "$(onnxcal completion bash)"')
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def command(shell: str) -> None:
    """Print the script that lets SHELL complete onnxcal's commands, options and choices."""
    from click.shell_completion import get_completion_class

    from onnxcal.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None  # click has all three
    click.echo(kind(cli, {}, "onnxcal", "_ONNXCAL_COMPLETE").source())
