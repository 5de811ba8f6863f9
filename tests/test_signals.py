import signal
import subprocess
import sys

import pytest

from lbsgd.ranks.signals import HANDLED, Interruption


def test_no_signal_is_no_exit_signal():
    with Interruption() as interruption:
        assert interruption.exit_signal == 0


@pytest.mark.parametrize("number", HANDLED)
def test_a_signal_is_remembered_and_named_in_the_exit_code(number):
    with Interruption() as interruption:
        signal.raise_signal(number)
        assert interruption.received == number
        assert interruption.exit_signal == (signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)


def test_the_first_signal_counts():
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGUSR1)
        assert interruption.received == signal.SIGUSR2


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in HANDLED]
    with pytest.raises(RuntimeError), Interruption():
        raise RuntimeError
    assert [signal.getsignal(number) for number in HANDLED] == before


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_process_at_once(second):
    code = (
        "import signal, sys; from lbsgd.ranks.signals import Interruption\n"
        "with Interruption():\n"
        "    signal.raise_signal(signal.SIGUSR2); print('still here', flush=True)\n"
        "    signal.raise_signal(int(sys.argv[1])); print('not reached')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(int(second))], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-second, "still here\n")
