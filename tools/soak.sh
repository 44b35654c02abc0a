#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make soak': very many calls, crowds, hostile clients, restarts under load (tests/soak/soak.py); some ten minutes on a
# quiet machine. tools/soak.sh --short is all of it in seconds, --only restarts one part.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
export BUILD="${BUILD:-build}"
tools/testenv.sh
make -j"$(nproc)"
export VENVD_BUILD="$BUILD" PYTHONDONTWRITEBYTECODE=1
exec env --default-signal=HUP,INT,QUIT,TERM build/testenv/bin/python tests/soak/soak.py "$@"
