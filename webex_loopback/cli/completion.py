"""`completion`: print the script that makes a shell complete commands, options and profile names."""

import click
from click.shell_completion import get_completion_class

from .app import cli


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    webex-loopback completion bash >> ~/.bashrc
    webex-loopback completion zsh >> ~/.zshrc
    webex-loopback completion fish > ~/.config/fish/completions/webex-loopback.fish
    """
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 - click.Choice
    click.echo(script(cli, {}, "webex-loopback", "_WEBEX_LOOPBACK_COMPLETE").source())
