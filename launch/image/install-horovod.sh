#!/bin/bash
# Build stage: Horovod, compiled for what /opt/lbsgd has. VARIANT: cpu or cuda.
set -euo pipefail

if [[ $VARIANT == cpu ]]; then
    lbsgd horovod build --operations cpu
else
    # Where an image is built there is no GPU to try it on.
    lbsgd horovod build --operations nccl --no-verify
    # Horovod looks for NCCL in the environment's lib, as for Open MPI.
    ln -s /opt/lbsgd/lib/python3*/site-packages/nvidia/nccl/lib/libnccl.so.2 /opt/lbsgd/lib/
fi
