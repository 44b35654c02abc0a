#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make conformance': what venvd makes beside what 'python -m venv' makes, entry by entry, for every interpreter of
# this machine; first, whether the comparison sees what it must. tools/conformance.sh --short tries some of it;
# --python 3.12, --axis paths are parts of it.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
export BUILD="${BUILD:-build}"
tools/testenv.sh
make -j"$(nproc)"
export VENVD_BUILD="$BUILD" PYTHONDONTWRITEBYTECODE=1
build/testenv/bin/python -m pytest -p no:cacheprovider -q tests/conformance
exec env --default-signal=HUP,INT,QUIT,TERM build/testenv/bin/python tests/conformance/conformance.py "$@"
