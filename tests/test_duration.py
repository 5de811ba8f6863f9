"""Durations: what is read, what is refused, and how many iterations they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.policy.duration import Duration


@pytest.mark.parametrize(
    ("text", "iterations"),
    [("5ep", 780), ("0.5ep", 78), ("300it", 300), ("0ep", 0), ("0it", 0), ("30ep", 4680), ("300.0it", 300)],
)
def test_iterations_of_156_an_epoch(text, iterations):
    assert Duration.parse(text).iterations(156) == iterations


def test_a_share_of_an_epoch_is_the_nearest_iteration_and_decimal():
    assert Duration.parse("0.3ep").iterations(10) == 3
    assert Duration.parse("0.29ep").iterations(100) == 29
    assert Duration.parse("0.26ep").iterations(10) == 3


@pytest.mark.parametrize("text", ["", "5", "ep", "5 ep", "-1ep", "5epochs", "1e3it", "0.5it", ".5ep", "٣ep"])
def test_other_texts_are_refused_by_name(text):
    with pytest.raises(ValueError, match="should be") as raised:
        Duration.parse(text)
    assert repr(text) in str(raised.value)


@given(amount=st.decimals(0, 10**6, places=3), length=st.integers(1, 10**5))
def test_epochs_and_the_iterations_they_are_agree(amount, length):
    epochs = Duration.parse(f"{amount}ep")
    assert Duration.parse(str(epochs)) == epochs
    assert Duration.parse(f"{epochs.iterations(length)}it").iterations(length) == epochs.iterations(length)
