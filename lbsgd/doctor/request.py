"""What is to be examined, and what each host is asked about it."""

from dataclasses import dataclass
from pathlib import Path

from lbsgd.launch.hosts import Allocation
from lbsgd.policy.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Request:
    """The job that the hosts are to be ready for.

    np: its ranks. launched: whether they run already, and this is one of them. oversubscribe: more ranks than slots are meant.
    frameworks: those it may use; empty means all that are installed. data: a data set as `open_dataset` takes it, None when
    that is not to be checked. timeout: seconds that a host or the ranks may take to answer.
    """

    allocation: Allocation
    np: int
    launched: bool
    oversubscribe: bool
    interface: str | None
    frameworks: tuple[str, ...]
    data: str | None
    runs: Path
    recipe: Recipe
    keep_checkpoints: int
    timeout: float

    @property
    def ranks(self) -> dict[str, int]:
        """Ranks of each host that has any: they fill host after host, and those without a slot go to the first."""
        ranks = self.allocation.first(self.np)
        ranks[self.first_host] += self.np - sum(ranks.values())
        return ranks

    @property
    def first_host(self) -> str:
        """Where rank 0 runs, which writes the record and the checkpoints."""
        return next(iter(self.allocation.slots))


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a host is asked. All paths are absolute: its shells start in another folder.

    folder: where the command was given; ranks start there. mpirun: its path on the host that starts the ranks, None when it
    has none. peers: the other hosts. mark: the name of a file in the runs folder, to see whether all hosts see the same one.
    """

    folder: Path
    runs: Path
    mark: str
    mpirun: str | None
    peers: tuple[str, ...]
    data: str | None

    def arguments(self) -> list[str]:
        """It as options of `lbsgd doctor facts`."""
        optional = {"--mpirun": self.mpirun, "--data": self.data}
        given = [word for flag, value in optional.items() if value is not None for word in (flag, value)]
        named = [word for peer in self.peers for word in ("--peer", peer)]
        return ["--folder", str(self.folder), "--runs", str(self.runs), "--mark", self.mark, *given, *named]
