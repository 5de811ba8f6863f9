"""How a rank that failed leaves, so that the cause is told once and no rank is left waiting."""

import json
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from lbsgd.errors import LbsgdError
from lbsgd.ranks.world import World
from lbsgd.record.atomic import write_json
from lbsgd.record.run_record import RunRecord, utc_now


def leave_together(world: World, error: Exception, folder: Path | None, *, begun: bool = False) -> NoReturn:
    """Report `error` and end this rank with its exit code; the other ranks too when they do not raise it themselves.

    folder: the run's, once it is known; the rank's traceback goes to its logs/rank-NNN/error.json. begun: whether the ranks
    are past what `together` guards, as they are once there is a folder.
    """
    from lbsgd.ranks.agreement import FailedElsewhere

    if isinstance(error, LbsgdError):
        code, collective, said = error.exit_code, error.collective, str(error)
        if collective or not (begun or folder):  # before training, `together` has told all ranks
            if (world.is_first or not collective) and not isinstance(error, FailedElsewhere):
                print(f"Error: {error}", file=sys.stderr, flush=True)
            sys.exit(code)
    else:
        code, said = 1, repr(error)
        traceback.print_exception(error)
    text = f"rank {world.rank} on {socket.gethostname()}: {said}"
    print(f"Error: {text}", file=sys.stderr, flush=True)
    if folder is not None:
        _write(world, error, folder, text)
    if world.size > 1:
        world.abort(code)
    sys.stdout.flush()
    os._exit(code)  # Horovod's and MPI's exit handlers may wait for ranks that are gone


def _write(world: World, error: Exception, folder: Path, text: str) -> None:
    """Leave the traceback for people and the status for `lbsgd runs`; a full disk must not hide the cause."""
    try:
        log = folder / "logs" / f"rank-{world.rank:03d}"
        log.mkdir(parents=True, exist_ok=True)
        report = {
            "time": utc_now(),
            "rank": world.rank,
            "host": socket.gethostname(),
            "error": text,
            "traceback": traceback.format_exception(error),
        }
        write_json(log / "error.json", report)
        RunRecord.open(folder).end("failed", text)
    except (OSError, json.JSONDecodeError, LbsgdError) as failure:
        print(f"(not recorded in {folder}: {failure})", file=sys.stderr)
