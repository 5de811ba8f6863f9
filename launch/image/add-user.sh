#!/bin/bash
# Final stage: the user lbsgd, number 1000, with its folders. Ubuntu's image has a user of that number.
set -euo pipefail

if id ubuntu >/dev/null 2>&1; then
    userdel --remove ubuntu
fi
useradd --uid 1000 --user-group --create-home --shell /bin/bash lbsgd
install --directory --owner=lbsgd --group=lbsgd --mode=700 /home/lbsgd/.ssh
install --directory --owner=lbsgd --group=lbsgd /workspace
