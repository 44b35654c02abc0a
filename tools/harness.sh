#!/bin/sh
# SPDX-License-Identifier: MIT
# tools/harness.sh PROGRAM [ARGUMENT...]: a harness of tests/ with what it needs: the test environment, the programs in $BUILD, and
# signals as they are by default, for whoever runs this in the background has some of them ignored.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
export BUILD="${BUILD:-build}"
tools/testenv.sh
make -j"$(nproc)"
export VENVD_BUILD="$BUILD" PYTHONDONTWRITEBYTECODE=1
exec env --default-signal=HUP,INT,QUIT,TERM build/testenv/bin/python "$@"
