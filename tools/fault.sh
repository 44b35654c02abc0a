#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make fault': every call that changes the file system is made to be the last one, or to fail (tests/fault/fault.py).
# tools/fault.sh --short takes some of them, --only rename one operation.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
export BUILD="${BUILD:-build}"
tools/testenv.sh
make -j"$(nproc)"
export VENVD_BUILD="$BUILD" PYTHONDONTWRITEBYTECODE=1
exec env --default-signal=HUP,INT,QUIT,TERM build/testenv/bin/python tests/fault/fault.py "$@"
