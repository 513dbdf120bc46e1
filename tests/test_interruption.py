"""Signals are recorded, and handled at the end of the step."""

import os
import signal
import threading

import pytest

from fgssl.errors import EXIT_INTERRUPTED
from fgssl.interruption import Interrupted, Interruption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_sets_a_flag_and_nothing_more(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interruption() as interruption:
        interruption.leave(interruption.received)
        os.kill(os.getpid(), number)
        assert interruption.received == number
        with pytest.raises(Interrupted) as caught:
            interruption.leave(interruption.received)
    assert caught.value.code == EXIT_INTERRUPTED == 75
    assert caught.value.number == number
    assert signal.getsignal(number) is before


def test_a_second_interrupt_from_the_keyboard_is_obeyed_at_once() -> None:
    with Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), Interruption():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_of_the_main_thread_signals_are_left_alone() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with Interruption() as interruption:
            found.append((interruption.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(0, before)]
