"""An image: a root folder, and how commands run in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import chroot

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """A root folder, and what a Dockerfile says of the commands that run in it. user: UID:GID."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    user: str = "0:0"
    folder: str = "/"
    default_command: tuple[str, ...] = ()

    def command(self, *arguments: str, environment: Mapping[str, str] | None = None, **options) -> list[str]:
        """The command that runs `arguments`, or the default ones, as `docker run --rm` would.

        environment: more of it. options: as for chroot.command, in place of the image's own.
        """
        options = {"user": self.user, "folder": self.folder, "drop": True} | options
        variables = self.environment | {"HOME": self._home(options["user"])} | (environment or {})
        return chroot.command(self.root, arguments or self.default_command, environment=variables, **options)

    def _home(self, user: str) -> str:
        """The home of a user; of one that the image does not know, "/"."""
        users = [line.split(":") for line in (self.root / "etc/passwd").read_text().splitlines()]
        return {number: home for _, _, number, _, _, home, _ in users}.get(user.partition(":")[0], "/")
