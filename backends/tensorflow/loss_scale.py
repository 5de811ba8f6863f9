"""Dynamic loss scaling for fp16, inside the graph; the same rule and constants as torch's GradScaler.

Keras has one, but only as part of a Keras optimiser.
"""

import tensorflow as tf

INITIAL = 65536.0
GROWTH_INTERVAL = 2000


class LossScale:
    """Multiplies the loss by a power of two; halves it when a gradient overflows, doubles it after 2000 good steps."""

    def __init__(self) -> None:
        self.scale = tf.Variable(INITIAL, trainable=False)
        self.good_steps = tf.Variable(0, trainable=False)

    def apply(self, loss: tf.Tensor) -> tf.Tensor:
        """The scaled loss."""
        return loss * self.scale

    def remove(self, gradients: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """The true gradients and whether all are finite (else the step must be skipped); adapts the scale.

        Gradients are averaged over the ranks before this, so all ranks decide alike.
        """
        gradients = {name: gradient / self.scale for name, gradient in gradients.items()}
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients.values()])
        grow = finite & (self.good_steps + 1 >= GROWTH_INTERVAL)
        factor = tf.where(finite, tf.where(grow, 2.0, 1.0), 0.5)
        self.good_steps.assign(tf.where(finite & ~grow, self.good_steps + 1, 0))
        self.scale.assign(self.scale * factor)
        return gradients, finite

    def export(self) -> dict[str, float]:
        """The state, under the names torch's GradScaler uses."""
        return {"scale": float(self.scale), "_growth_tracker": float(self.good_steps)}

    def restore(self, state: dict[str, float]) -> None:
        """Take over a state that `export` or torch's GradScaler made."""
        self.scale.assign(state["scale"])
        self.good_steps.assign(int(state["_growth_tracker"]))
