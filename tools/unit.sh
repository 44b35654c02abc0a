#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make unit': builds and runs every cmocka program of tests/unit; fails if one of them does.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
export BUILD="${BUILD:-build}"
export UBSAN_OPTIONS=print_stacktrace=1
make -j"$(nproc)" unit-programs
failed=0
for source in tests/unit/test_*.c; do
	program=$BUILD/${source%.c}
	[ -x "$program" ] || continue
	timeout 120 "$program" >"$program.txt" 2>&1 || { echo "$program failed"; failed=1; }
	grep -v -e '^\[ RUN ' -e '^\[       OK ' -e '^\[=====' "$program.txt"
done
exit $failed
