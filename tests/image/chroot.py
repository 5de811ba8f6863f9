"""A process in a folder that is a Debian system of its own, much as a container engine runs one.

The process has namespaces for its mounts, processes and host name. They end with it, and all that was mounted with them:
nothing is left to undo, however this ends.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

ENTER = Path(__file__).with_name("enter.sh")


def command(
    root: Path,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    user: str = "0:0",
    folder: str = "/",
    hostname: str = "container",
    mounts: Mapping[Path, str] | None = None,
    drop: bool = False,
) -> list[str]:
    """The command that runs `arguments` in `root` with nothing but `environment`.

    user: UID:GID. folder: to start in. mounts: what else is there, and where; what lies under /mnt leaves no trace in `root`.
    drop: whether `root` stays as it is, whatever the command writes there.
    """
    lines = "".join(f"{source} {target}\n" for source, target in (mounts or {}).items())
    unshare = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child"]
    enter = [str(ENTER), str(root), hostname, "yes" if drop else "no", lines]
    chroot = ["chroot", f"--userspec={user}", "--groups=", str(root)]
    inside = ["env", "--ignore-environment", f"--chdir={folder}", *(f"{k}={v}" for k, v in environment.items())]
    return [*unshare, *enter, *chroot, *inside, *arguments]
