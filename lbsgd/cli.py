"""The `lbsgd` command: finds the subcommand asked for, loads only that one, and turns errors into exit codes."""

import importlib
import sys

import click

from lbsgd import __version__
from lbsgd.errors import LbsgdError, did_you_mean

# name -> (module:attribute, the line that `lbsgd --help` shows). Written out so that help loads no command.
COMMANDS = {
    "train": ("lbsgd.commands.train:train", "Train an image classifier on any number of workers."),
    "eval": ("lbsgd.commands.evaluate:evaluate", "Evaluate a checkpoint on every validation image, each exactly once."),
    "plan": (
        "lbsgd.commands.plan:plan",
        "Show what a run would do: every derived number, the rule behind it, and warnings.",
    ),
    "recipe": ("lbsgd.commands.recipe:recipe", "List, show, compare and begin recipes."),
    "report": (
        "lbsgd.commands.report:report",
        "Write one HTML page about a run, a scaling study or a folder of them.",
    ),
    "runs": ("lbsgd.commands.runs:runs", "List, show and compare recorded runs."),
    "bench": ("lbsgd.commands.bench:bench", "Measure how training scales over numbers of workers, and what limits it."),
    "study": (
        "lbsgd.commands.study:study",
        "Train a grid of small runs, and write a page about the outcome.",
    ),
    "project": (
        "lbsgd.commands.project:project",
        "Predict the efficiency of training on a hypothetical cluster.",
    ),
    "launch": (
        "lbsgd.commands.launch:launch",
        "Start a command on many hosts by horovodrun, mpirun, Slurm or Kubernetes.",
    ),
    "doctor": (
        "lbsgd.commands.doctor:doctor",
        "Find what would keep a job from running on these hosts, and say what to do about it.",
    ),
    "data": ("lbsgd.commands.data:data", "Make, describe, index, pack and verify data sets."),
    "horovod": ("lbsgd.commands.horovod:horovod", "Build Horovod for this environment, or check it."),
}


def name_variables(command: click.Command, prefix: str) -> None:
    """Let every option read the environment variable called `prefix` and its flag.

    click's own auto_envvar_prefix goes by the name of the function's argument, which users do not know.
    """
    for option in command.params:
        if isinstance(option, click.Option):
            flag = next(flag for flag in option.opts if flag.startswith("--"))
            option.envvar = f"{prefix}_{flag[2:]}".replace("-", "_").upper()
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            name_variables(inner, f"{prefix}_{name}")


class LazyGroup(click.Group):
    """A group that knows its commands' names and help lines without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        name_variables(command, f"LBSGD_{name}")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]):
        name = args[0] if args else ""
        if name not in COMMANDS and not name.startswith("-"):
            hint = did_you_mean(name, COMMANDS) or f"there are: {', '.join(COMMANDS)}"
            ctx.fail(f"no command {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lbsgd")
def cli() -> None:
    """Train image classifiers with large minibatches: one recipe, PyTorch or TensorFlow, Horovod over MPI.

    Every option can also be set in the environment as LBSGD_<COMMAND>_<OPTION>, e.g. LBSGD_TRAIN_SEED=1.
    """


def main() -> None:
    """Run the command line and leave with the exit code that the error, if any, carries."""
    try:
        code = cli.main(prog_name="lbsgd", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        code = 130
    except LbsgdError as error:
        click.echo(f"Error: {error}", err=True)
        code = error.exit_code
    sys.exit(code if isinstance(code, int) else 0)
