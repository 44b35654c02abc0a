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
# A shell that runs this in the background, or nohup, has signals ignored: that is not what is tested.
export VENVD_BUILD="$BUILD" PYTHONDONTWRITEBYTECODE=1 UBSAN_OPTIONS=print_stacktrace=1
# Large trees: pytest would keep three runs of them, and spend a minute on the oldest.
base=$(mktemp -d "${TMPDIR:-/tmp}/venvd-e2e-XXXXXX")
trap 'rm -rf --one-file-system "$base"' EXIT
env --default-signal=HUP,INT,QUIT,TERM build/testenv/bin/python -m pytest -p no:cacheprovider -q -n "${JOBS:-2}" \
	--basetemp="$base/t" tests/e2e "$@"
