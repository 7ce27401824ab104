"""The command `wsgi-store`, installed with the extra `cli`."""

import sys
from importlib import import_module
from typing import Any

try:
    import click
except ModuleNotFoundError:
    sys.exit("wsgi-store: the command needs more than the server: install the extra cli (docs/deployment.md)")

from wsgi_store.cli.output import EXITS, JSON, QUIET, ending
from wsgi_store.version import __version__

# Each command with its module, which is imported when it is used, and what it does in a line.
COMMANDS = {
    "serve": ("serve", "Run a server."),
    "put": ("upload", "Upload files."),
    "get": ("download", "Download blobs to files."),
    "cat": ("download", "Write blobs to standard output."),
    "stat": ("remote", "Tell about blobs."),
    "ls": ("remote", "List blobs."),
    "rm": ("remote", "Remove blobs."),
    "link": ("signing", "Make a signed URL to download a blob."),
    "ticket": ("signing", "Make a signed URL to upload a file."),
    "verify": ("upkeep", "Check a store for damage."),
    "collect": ("upkeep", "Remove leftovers and old blobs from a store."),
    "du": ("upkeep", "Count what a store holds."),
    "manifest": ("upkeep", "List a store for md5sum or sha256sum."),
    "token": ("tokens", "Make, list and revoke tokens."),
}


class Commands(click.Group):
    """The commands of the table; what they raise becomes a line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"wsgi_store.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, without importing them, and the exit statuses."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
        with formatter.section("Exit status"):
            formatter.write_dl([(str(exit_.status), exit_.meaning) for exit_ in EXITS])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with ending(lambda: bool(ctx.meta.get(JSON)), lambda: bool(ctx.meta.get(QUIET))):
            return super().invoke(ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wsgi-store")
def main() -> None:
    """A content-addressed file store: run a server, move files to one and back, look after a store.

    `wsgi-store COMMAND --help` tells the options of a command.
    """
