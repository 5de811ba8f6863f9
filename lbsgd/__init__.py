"""Large-minibatch SGD for image classifiers: one recipe, two frameworks, any number of workers."""

__version__ = "0.1.0"
