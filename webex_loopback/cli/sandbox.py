"""`sandbox`: run the simulated Webex; its own parser reads the options."""

import click

from webex_loopback.sandbox.__main__ import main


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
def sandbox(arguments: tuple[str, ...]) -> int:
    """Run a simulated Webex on this machine, for trying things out and for tests."""
    try:
        return main(list(arguments))
    except SystemExit as error:  # argparse, for --help and for wrong options
        return error.code if isinstance(error.code, int) else 2
