"""What the launchers that submit a job, to be started later and perhaps several times, have in common."""

import click

from lbsgd.commands.startable import require_startable
from lbsgd.errors import UsageError

restarts_option = click.option(
    "--restarts",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Number of restarts after failures that may be transient, such as a lost rank.",
)
print_option = click.option("--print", "only_print", is_flag=True, help="Show what would be submitted without submitting it.")


def require_submittable(command: tuple[str, ...], *, starts_itself: bool, interface: str | None) -> None:
    """Raise UsageError, or click's, unless `command` can be completed to what runs in the job.

    starts_itself: whether the command starts its ranks, so that any command will do. interface: --interface as it was given.
    """
    if not starts_itself or not command or command[0] == "lbsgd":
        require_startable(command)
    if starts_itself and interface:
        raise UsageError(f"--interface {interface} before --: the command starts its ranks itself; give it after --")
    if any(word == "--run-dir" or word.startswith("--run-dir=") for word in command):
        raise UsageError("--run-dir after --: give it before, so that the job knows where to look for checkpoints")


def is_training(command: tuple[str, ...]) -> bool:
    """Whether the command leaves a run that another attempt can resume."""
    return command[0] == "train"
