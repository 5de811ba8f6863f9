#!/bin/bash
# Build stage: takes out of /opt/lbsgd what serves only to compile against it, and the symbols that only a debugger reads.
set -euo pipefail

pip uninstall --quiet --yes cmake libclang
cd /opt/lbsgd/lib/python3*/site-packages
rm -rf tensorflow/include torch/include torch/test
if [[ -d torch/bin ]]; then
    find torch/bin -type f ! -name torch_shm_manager -delete
fi
find horovod -name '*.so' -exec strip --strip-unneeded {} +
