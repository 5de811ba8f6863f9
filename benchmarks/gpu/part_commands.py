"""Commands as a user types them, with what they print."""

import time

from part import Part, record_of, run_lbsgd

COMMANDS = {
    "data demo": ("data", "demo", "typed"),
    "train": ("train", "--framework", "torch", "--recipe", "demo", "--data", "typed", "--run-dir", "typed-run"),
    "train without measuring": (
        *("train", "--framework", "torch", "--recipe", "demo", "--data", "typed", "--run-dir", "typed-plain"),
        *("--efficiency-every", "0"),
    ),
    "doctor": ("doctor", "--np", "1", "--framework", "torch"),
    "bench input": ("bench", "input", "--data", "typed", "--recipe", "demo", "--seconds", "0.5", "--feed", "3000"),
    "eval": ("eval", "typed-run"),
}
FEWER = ("--max-steps", "45")
"""For a rehearsal: one epoch."""


def run(part: Part) -> None:
    """Run each command; its output, or how it failed, is kept. Then what one rank says of its efficiency."""
    seconds, said = {}, {}
    for name, command in COMMANDS.items():
        started = time.monotonic()
        shortened = FEWER if part.rehearse and command[0] == "train" else ()
        done = run_lbsgd(part, *command, *shortened)
        seconds[name] = round(time.monotonic() - started, 1)
        said[name] = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        part.check(f"lbsgd {name}", True)
        part.record(command_seconds=seconds, output=said)
    record = record_of(part.scratch / "typed-run")
    part.record(one_rank={name: record[name] for name in ("scaling", "time_split", "throughput")})
    if not part.rehearse:
        part.target("digits: accuracy", 1 - record["final"]["top1_error"], 0.97)
