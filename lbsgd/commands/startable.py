"""The lbsgd command line that follows `--` in `lbsgd launch LAUNCHER -- ...`.

It is parsed here, before hundreds of ranks are started that would all complain.
"""

from collections.abc import Sequence

import click
from click.core import ParameterSource

from lbsgd.errors import UsageError

LAUNCHER_PARAMETERS = ("np", "hosts", "hostfile", "interface", "oversubscribe")
COMMANDS = ("train", "eval", "bench allreduce", "doctor")
EXAMPLE = "train --framework torch --data /data/imagenet"

command_argument = click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND [ARGS]...")


def require_startable(words: Sequence[str]) -> None:
    """Raise UsageError, or click's, unless `words` are the arguments of lbsgd for a command that runs as ranks."""
    if not words:
        raise UsageError(f"nothing to start; give an lbsgd command after --, e.g. -- {EXAMPLE}")
    if words[0] == "lbsgd":
        raise UsageError(f"what follows -- is an lbsgd command without the word lbsgd, e.g. -- {EXAMPLE}")
    context = parse(words)
    name = context.command_path.removeprefix("lbsgd ")
    if name not in COMMANDS:
        raise UsageError(f"{name!r} does not run as ranks; these do: {', '.join(COMMANDS)}")
    _require_no_launcher_options(context, name)


def parse(words: Sequence[str]) -> click.Context:
    """What the running command line would make of `words`, down to the subcommand. Raises click.UsageError as it would."""
    name, command, rest = "lbsgd", click.get_current_context().find_root().command, list(words)
    parent: click.Context | None = None
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        parent = click.Context(command, parent=parent, info_name=name)
        _, found, arguments = command.resolve_command(parent, rest)
        if found is None:
            break
        name, command, rest = rest[0], found, arguments
    return command.make_context(name, rest, parent=parent)


def _require_no_launcher_options(context: click.Context, name: str) -> None:
    """Where and how often to start the command is for the launcher to say."""
    for parameter in context.command.params:
        typed = context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
        if typed and parameter.name in LAUNCHER_PARAMETERS:
            flag = parameter.opts[0]
            raise UsageError(f"{flag} after -- would tell {name} what the launcher decides; give {flag} before --")
