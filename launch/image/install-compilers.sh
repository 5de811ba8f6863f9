#!/bin/bash
# Build stage: what compiles Horovod, and ssh, without which mpirun does not even start ranks on its own host to try it.
#
# Debian removes a package's version when the next one is out, so none is named here.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends ca-certificates g++ make openssh-client python3-dev python3-venv
rm -rf /var/lib/apt/lists/*
