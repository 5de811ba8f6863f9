"""Networks small enough to differentiate by hand: softmax regression, and one hidden layer with batch norm.

Arrays have torch's names and layouts: linear weights are [out, in].
"""

import zlib

import numpy as np

from lbsgd.backends.batch_norm import EPSILON
from lbsgd.models.state import Arrays

HIDDEN = {"softmax": 0, "two-layer": 16}
"""Units of the hidden layer, by the name behind "reference:"."""


class Network:
    """Logits of images that were flattened. parameters: what is trained; buffers: batch norm's running statistics."""

    def __init__(self, name: str, inputs: int, classes: int, seed: int) -> None:
        hidden = HIDDEN[name]
        self.parameters: Arrays = {
            "fc.weight": draw("fc.weight", (classes, hidden or inputs), seed),
            "fc.bias": np.zeros(classes),
        }
        self.buffers: Arrays = {}
        if hidden:
            first = {"hidden.weight": draw("hidden.weight", (hidden, inputs), seed)}
            self.parameters = first | {"bn.weight": np.ones(hidden), "bn.bias": np.zeros(hidden)} | self.parameters
            self.buffers = {"bn.running_mean": np.zeros(hidden), "bn.running_var": np.ones(hidden)}

    def logits(self, x: np.ndarray) -> np.ndarray:
        """float64 [batch, classes] of x, float64 [batch, inputs], by running statistics."""
        if self.buffers:
            mean, variance = self.buffers["bn.running_mean"], self.buffers["bn.running_var"]
            normal = (x @ self.parameters["hidden.weight"].T - mean) / np.sqrt(variance + EPSILON)
            x = np.maximum(normal * self.parameters["bn.weight"] + self.parameters["bn.bias"], 0)
        return x @ self.parameters["fc.weight"].T + self.parameters["fc.bias"]

    def loss_and_gradient(self, x: np.ndarray, targets: np.ndarray, momentum: float) -> tuple[float, Arrays]:
        """The mean cross-entropy with `targets`, float64 [batch, classes], and its gradient, by the batch's own statistics.

        momentum: the weight that these get in the running ones.
        """
        if not self.buffers:
            loss, from_logits = cross_entropy(x @ self.parameters["fc.weight"].T + self.parameters["fc.bias"], targets)
            return loss, {"fc.weight": from_logits.T @ x, "fc.bias": from_logits.sum(0)}
        scale = self.parameters["bn.weight"]
        before = x @ self.parameters["hidden.weight"].T
        mean, variance = before.mean(0), before.var(0)
        deviation = np.sqrt(variance + EPSILON)
        normal = (before - mean) / deviation
        hidden = np.maximum(normal * scale + self.parameters["bn.bias"], 0)
        self._track(mean, variance * len(x) / max(1, len(x) - 1), momentum)
        loss, from_logits = cross_entropy(hidden @ self.parameters["fc.weight"].T + self.parameters["fc.bias"], targets)
        from_hidden = from_logits @ self.parameters["fc.weight"] * (hidden > 0)
        from_normal = from_hidden * scale
        centred = from_normal - from_normal.mean(0) - normal * (from_normal * normal).mean(0)
        return loss, {
            "hidden.weight": (centred / deviation).T @ x,
            "bn.weight": (from_hidden * normal).sum(0),
            "bn.bias": from_hidden.sum(0),
            "fc.weight": from_logits.T @ hidden,
            "fc.bias": from_logits.sum(0),
        }

    def _track(self, mean: np.ndarray, variance: np.ndarray, momentum: float) -> None:
        for name, value in (("bn.running_mean", mean), ("bn.running_var", variance)):
            self.buffers[name] += momentum * (value - self.buffers[name])


def draw(name: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    """Weights that keep the variance of what goes in; each array has a random stream of its own."""
    stream = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(name.encode())]))
    return stream.standard_normal(shape) / np.sqrt(shape[1])


def cross_entropies(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-sum(targets log softmax(logits)) of each row: float64 [batch]."""
    shifted = logits - logits.max(1, keepdims=True)
    return np.log(np.exp(shifted).sum(1)) * targets.sum(1) - (shifted * targets).sum(1)


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean over the batch, and its gradient by the logits. The rows of `targets` sum up to 1."""
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return float(cross_entropies(logits, targets).mean()), (shares - targets) / len(targets)
