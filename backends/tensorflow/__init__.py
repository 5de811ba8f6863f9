"""The TensorFlow backend. Importing this package imports TensorFlow."""

from lbsgd.backends.tensorflow.quiet import held_stderr

with held_stderr():
    import tensorflow  # noqa: F401
