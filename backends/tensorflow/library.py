"""Networks of keras.applications (`--model keras:NAME`), under Keras's own variable paths and layout."""

import keras
import numpy as np
import tensorflow as tf

from lbsgd.errors import UsageError
from lbsgd.models.state import Arrays

PREFIXES = ("gamma", "beta")
STATISTICS = ("moving_mean", "moving_variance")


class LibraryNetwork:
    """A Keras application behind the interface of ResidualNetwork.

    Keras fixes batch norm's momentum when a layer is made, so `logits` ignores `momentum`: only --accumulate 1 is exact, and
    the backend refuses more.
    """

    def __init__(self, name: str, classes: int, size: int, seed: int) -> None:
        keras.utils.set_random_seed(seed)
        factory = getattr(keras.applications, name, None)
        if not callable(factory):
            names = [n for n in dir(keras.applications) if n[0].isupper()]
            raise UsageError(f"keras.applications has no model {name!r}; it has {', '.join(names)}")
        self.model = factory(weights=None, classes=classes, input_shape=(size, size, 3), classifier_activation=None)
        self.trained = {v.path: v.value for v in self.model.trainable_variables}
        self.decayed = {path for path in self.trained if path.rpartition("/")[2] not in PREFIXES}
        self.adapted = {path for path, variable in self.trained.items() if variable.shape.rank > 1}
        self.buffers = {v.path: v.value for v in self.model.non_trainable_variables}

    def statistics(self) -> list[tf.Variable]:
        """Batch norm's running means and variances."""
        return [v for path, v in self.buffers.items() if path.rpartition("/")[2] in STATISTICS]

    def logits(self, x: tf.Tensor, training: bool, momentum: tf.Tensor | float) -> tf.Tensor:
        """As ResidualNetwork.logits; the network computes in float32."""
        return self.model(tf.cast(x, tf.float32), training=training)

    def to_canonical(self, variables: dict[str, tf.Variable]) -> Arrays:
        """Copies of variables; Keras's layout is kept, nothing else reads it."""
        return {name: np.array(variable.numpy()) for name, variable in variables.items()}

    def from_canonical(self, arrays: Arrays) -> Arrays:
        """The arrays as they are."""
        return arrays
