"""Both backends keep the contract on two ranks."""

import json
from pathlib import Path

import numpy as np
import pytest

from lbsgd.backends.processor import has_bf16

from .ranks import run_program

FRAMEWORKS = ("torch", "tensorflow")


@pytest.fixture(scope="module")
def reports():
    made = {}

    def of(framework: str) -> dict:
        if framework not in made:
            done = run_program(2, Path(__file__).with_name("exercise_backend.py"), framework)
            made[framework] = json.loads(done.stdout.split("REPORT", 1)[1])
        return made[framework]

    return of


@pytest.mark.parametrize("precision, tolerance", [("bf16", 2e-2), ("fp16", 5e-3)])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_lower_precision_learns_as_fp32_does(reports, framework, precision, tolerance):
    low, full = reports(framework)[precision]["losses"], reports(framework)["fp32"]["losses"]
    assert full[-1] < 0.97 * full[0]
    np.testing.assert_allclose(low, full, rtol=tolerance)
    assert low != full


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_measured_steps_have_the_losses_of_ordinary_ones_bit_by_bit(reports, framework, precision):
    report = reports(framework)[precision]
    assert report["measured"] == report["losses"]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.1), ("fp16", 0.05)])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_measured_steps_tell_the_norms_of_the_gradients_without_a_loss_scale(reports, framework, precision, tolerance):
    """Of both ranks' own, and of their mean, which noise makes longer the fewer images there are."""
    for (own, mean), (own_in_torch, mean_in_torch) in zip(
        reports(framework)[precision]["squares"], reports("torch")["fp32"]["squares"], strict=True
    ):
        assert len(own) == 2 and own[0] != own[1]
        assert own == pytest.approx(own_in_torch, rel=tolerance)
        assert mean == pytest.approx(mean_in_torch, rel=tolerance)
        assert mean < sum(own) / 2


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_replicas_differ_in_running_statistics_only_until_these_are_averaged(reports, framework, precision):
    report = reports(framework)[precision]
    assert not report["equal_before"]
    assert report["equal_after"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_overflow_skips_the_step_and_halves_the_scale(reports, framework):
    assert reports(framework)["overflow"] == {"unchanged": True, "scale": 0.5}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_state_that_was_put_back_is_the_same(reports, framework):
    assert reports(framework)["round_trip"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_broadcast_unites_replicas_that_differ(reports, framework):
    assert reports(framework)["apart"]
    assert reports(framework)["together_again"]


@pytest.mark.parametrize("together", ["2", "4"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_virtual_workers_in_one_pass_train_as_one_after_the_other(reports, framework, together):
    """Each has batch norm statistics of its own: losses, weights, velocity and running averages are equal to rounding."""
    passes = reports(framework)["passes"]
    (losses, state), (expected_losses, expected) = passes[together], passes["1"]
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    for name, total in expected.items():
        assert state[name] == pytest.approx(total, rel=1e-3, abs=2e-3), name


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_evaluation_counts_valid_images_only(reports, framework):
    assert reports(framework)["valid_only"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_state_of_another_model_is_refused(reports, framework):
    assert "fc.weight has shape [10, 64], here [7, 64]" in reports(framework)["other_model"]


def test_memory_layout_does_not_change_the_losses(reports):
    first, last = reports("torch")["layouts"]
    np.testing.assert_allclose(last, first, rtol=1e-4)


def test_keras_application_trains_on_two_ranks(reports):
    report = reports("tensorflow")["keras"]
    assert np.isfinite(report["losses"]).all()
    assert report["equal"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_automatic_precision_is_what_the_processor_has_and_the_same_on_all_ranks(reports, framework):
    assert set(reports(framework)["automatic"]) == {"bf16" if has_bf16() else "fp32"}


def test_a_compiled_network_has_the_same_losses_and_is_compiled_once_for_all_virtual_workers(reports):
    compiled = reports("torch")["compiled"]
    assert compiled["losses"] == pytest.approx(compiled["plain"], rel=1e-5)
    first, last = compiled["graphs"]
    assert first == last > 1
