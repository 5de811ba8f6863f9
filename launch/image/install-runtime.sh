#!/bin/bash
# Final stage: Python, and ssh for ranks on several hosts.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends openssh-client openssh-server python3
rm -rf /var/lib/apt/lists/*
# Keys made here would be the same in every copy of the image.
rm /etc/ssh/ssh_host_*
