"""What Horovod 0.28.1 does where HOROVOD_CYCLE_TIME and HOROVOD_FUSION_THRESHOLD are not set."""

CYCLE_MS = 1.0
"""Between two looks at which tensors all ranks have ready."""

FUSION_BYTES = 128 * 2**20
"""Tensors that are ready together are sent as one, up to this size."""
