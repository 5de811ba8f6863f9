"""The environment variables that ranks get from whoever starts them.

An allow-list: horovodrun hands on everything, and with it the secrets of a login shell, to all hosts.
"""

from collections.abc import Mapping

NAMES = (
    "PATH",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "CUDA_VISIBLE_DEVICES",
)
PREFIXES = (
    "LBSGD_",
    "HOROVOD_",
    "NCCL_",
    "UCX_",
    "FI_",
    "MPIR_CVAR_",
    "I_MPI_",
    "OMP_",
    *(f"TF_{word}_" for word in ("CPP", "CUDNN", "DETERMINISTIC", "DISABLE", "ENABLE", "FORCE", "GPU", "NUM", "XLA")),
)
"""Not all of TF_: Terraform's variables begin so too, and hold secrets."""


def exported_names(environment: Mapping[str, str]) -> list[str]:
    """The names in `environment` that are on the list, sorted."""
    return sorted(name for name in environment if name in NAMES or name.startswith(PREFIXES))
