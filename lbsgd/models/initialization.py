"""The arrays a network starts from, drawn once in numpy, so that every framework starts from the same ones."""

import zlib

import numpy as np

from lbsgd.models.network import Network, Parameter


def initial_arrays(network: Network, seed: int, last_gamma: float = 0.0) -> dict[str, np.ndarray]:
    """The state dict of a fresh network: float32 parameters and batch norm buffers, int64 counters.

    Convolutions: He et al., normal with variance 2 / fan-out as in fb.resnet.torch. The linear layer: normal with standard
    deviation 0.01. Batch norm: gamma 1, but `last_gamma` for the last one of a residual block, in the paper 0 (section 5.1).
    Each array has a random stream of its own, keyed by (seed, name).
    """
    arrays = {name: _start(name, parameter, seed, last_gamma) for name, parameter in network.parameters.items()}
    for name, channels in network.batch_norms.items():
        arrays[f"{name}.running_mean"] = np.zeros(channels, np.float32)
        arrays[f"{name}.running_var"] = np.ones(channels, np.float32)
        arrays[f"{name}.num_batches_tracked"] = np.zeros((), np.int64)
    return arrays


def _start(name: str, parameter: Parameter, seed: int, last_gamma: float) -> np.ndarray:
    if parameter.role == "batch norm scale":
        return np.ones(parameter.shape, np.float32)
    if parameter.role == "last batch norm scale":
        return np.full(parameter.shape, last_gamma, np.float32)
    if parameter.role in ("batch norm shift", "linear bias"):
        return np.zeros(parameter.shape, np.float32)
    deviation = 0.01
    if parameter.role == "convolution":
        outputs, _, height, width = parameter.shape
        deviation = (2 / (outputs * height * width)) ** 0.5
    stream = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(name.encode())]))
    return stream.standard_normal(parameter.shape, np.float32) * np.float32(deviation)
