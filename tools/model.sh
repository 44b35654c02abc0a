#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make model': random steps on a real daemon and on a model of it, 100,000 of them (tests/model/model.py).
# tools/model.sh --short takes 10,000; --seed N begins with those of a seed; --replay FILE does the steps of a failure again.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
export BUILD="${BUILD:-build}"
tools/testenv.sh
make -j"$(nproc)"
export VENVD_BUILD="$BUILD" PYTHONDONTWRITEBYTECODE=1
exec env --default-signal=HUP,INT,QUIT,TERM build/testenv/bin/python tests/model/model.py "$@"
