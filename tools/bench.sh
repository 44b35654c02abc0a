#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make bench': what it costs, as ratios measured side by side; 'tools/bench.sh --short' only tries each row.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
export BUILD="${BUILD:-build}"
tools/testenv.sh
make -j"$(nproc)"
export VENVD_BUILD="$BUILD" PYTHONDONTWRITEBYTECODE=1
exec build/testenv/bin/python tests/bench/bench.py "$@"
