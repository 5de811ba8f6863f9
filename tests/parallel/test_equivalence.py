"""One worker = N workers, and torch = TensorFlow: the same recipe gives the same losses."""

import numpy as np
import pytest

from .ranks import step_losses, train

ITERATIONS = 50
VIRTUAL_WORKERS = 4
REFERENCE_RATE = 0.4  # for 256 images, so 0.05 here: enough to learn something in 50 iterations


@pytest.fixture(scope="module")
def losses(digits, tmp_path_factory):
    """Losses of 4 virtual workers of 8 images, by framework and number of ranks; each run is made once."""
    made: dict[tuple[str, int], np.ndarray] = {}

    def of(framework: str, ranks: int) -> np.ndarray:
        if (framework, ranks) not in made:
            metrics = train(
                ranks,
                tmp_path_factory.mktemp("runs") / f"{framework}-{ranks}",
                *("--framework", framework, "--recipe", "demo", "--data", str(digits)),
                *("--batch-per-gpu", "8", "--accumulate", str(VIRTUAL_WORKERS // ranks)),
                *("--set", f"learning_rate.reference={REFERENCE_RATE}", "--max-steps", str(ITERATIONS)),
                *("--efficiency-every", "0", "--keep-checkpoints", "1"),
            )
            made[framework, ranks] = np.array(step_losses(metrics))
        return made[framework, ranks]

    return of


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_losses_do_not_depend_on_the_number_of_ranks(losses, framework, ranks):
    one, many = losses(framework, 1), losses(framework, ranks)
    assert len(one) == len(many) == ITERATIONS
    np.testing.assert_allclose(many[:20], one[:20], rtol=1e-4)
    np.testing.assert_allclose(many, one, rtol=1e-2)


def test_losses_do_not_depend_on_the_framework(losses):
    np.testing.assert_allclose(losses("tensorflow", 2)[:20], losses("torch", 2)[:20], rtol=1e-3)


def test_the_runs_learn_something(losses):
    """Equal losses of runs that stand still would prove nothing."""
    one = losses("torch", 1)
    assert one[-5:].mean() < 0.9 * one[:5].mean()
