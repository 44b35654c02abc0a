#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make e2e': the real programs on a real socket. Further arguments go to pytest:
# tools/e2e.sh -k restore -x
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
export BUILD="${BUILD:-build}"
tools/testenv.sh
make -j"$(nproc)"
export VENVD_BUILD="$BUILD" PYTHONDONTWRITEBYTECODE=1 UBSAN_OPTIONS=print_stacktrace=1
exec build/testenv/bin/python -m pytest -p no:cacheprovider -q -n "${JOBS:-2}" tests/e2e "$@"
