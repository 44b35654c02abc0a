#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make races': directories and links change places while workers look paths up (tests/races/races.py).
# tools/races.sh --short takes some of the races, --only rename one order.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
export BUILD="${BUILD:-build}"
tools/testenv.sh
make -j"$(nproc)"
export VENVD_BUILD="$BUILD" PYTHONDONTWRITEBYTECODE=1
exec env --default-signal=HUP,INT,QUIT,TERM build/testenv/bin/python tests/races/races.py "$@"
