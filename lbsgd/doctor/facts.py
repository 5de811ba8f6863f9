"""What one host knows of itself, section after section, so that a section that hangs does not take the others with it."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from lbsgd.doctor import dataset, machine, mpi, network, software, storage
from lbsgd.doctor.request import Question

Facts = dict[str, Any]
"""Sections by name, as JSON values."""

SECTIONS: dict[str, Callable[[Question], Facts]] = {
    "software": lambda question: software.look(),
    "mpi": mpi.look,
    "machine": lambda question: machine.look(),
    "network": network.look,
    "storage": storage.look,
    "data": dataset.look,
}


def collect(question: Question) -> Iterator[tuple[str, Any]]:
    """This host's facts. "clock" comes first: seconds since 1970, to be compared with the time of arrival."""
    yield "clock", time.time()
    for name, look in SECTIONS.items():
        yield name, look(question)
