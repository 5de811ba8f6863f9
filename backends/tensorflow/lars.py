"""LARS in TensorFlow, of one variable at a time."""

import tensorflow as tf

from lbsgd.policy.recipe import Optimizer


def lars_update(
    variable: tf.Variable,
    velocity: tf.Variable,
    gradient: tf.Tensor,
    learning_rate: tf.Tensor,
    settings: Optimizer,
    *,
    adapted: bool,
) -> None:
    """v = m v + eta trust (g + lambda w), w = w - v, as the recipe's `Optimizer` says. adapted: else trust is 1, lambda 0."""
    rate = learning_rate
    if adapted:
        of_weight, of_gradient = tf.norm(variable), tf.norm(gradient)
        trust = settings.trust * of_weight / (of_gradient + settings.weight_decay * of_weight + settings.epsilon)
        rate *= tf.where((of_weight > 0) & (of_gradient > 0), trust, 1.0)
        gradient += settings.weight_decay * variable
    variable.assign_sub(velocity.assign(settings.momentum * velocity + rate * gradient))
