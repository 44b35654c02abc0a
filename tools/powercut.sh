#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make powercut', as root: the power is cut under a daemon at work, on ext4, xfs and btrfs (tests/powercut/powercut.py).
# tools/powercut.sh --short makes a few cuts on ext4; --only xfs, --cuts 50, --seed 7; --bite runs weakened daemons alone.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
export BUILD="${BUILD:-build}"

# leave WHY: in the words that 'make check' counts.
leave() {
	echo "power cuts are not tested here: $1"
	echo '1 skipped in 0s'
	exit 0
}
short=
for word; do [ "$word" != --short ] || short=yes; done
if [ "$(id -u)" -ne 0 ]; then
	[ -z "$short" ] && echo 'powercut: only root can mount: run it as root' >&2 && exit 1
	leave 'only root can mount'
fi
tools/testenv.sh
missing=
command -v mkfs.ext4 >/dev/null || missing=e2fsprogs
if [ -z "$short" ]; then
	command -v mkfs.xfs >/dev/null || missing="$missing xfsprogs"
	command -v mkfs.btrfs >/dev/null || missing="$missing btrfs-progs"
fi
# shellcheck disable=SC2086 # a list of words
[ -z "$missing" ] || tools/packages.sh $missing
make -j"$(nproc)"

# What is mounted and started here goes with these namespaces, however this ends.
set -- env --default-signal=HUP,INT,QUIT,TERM build/testenv/bin/python tests/powercut/powercut.py "$@"
unshare --mount --pid --fork --kill-child --mount-proc true 2>/dev/null || leave 'there are no namespaces'
export VENVD_BUILD="$BUILD" PYTHONDONTWRITEBYTECODE=1
exec unshare --mount --pid --fork --kill-child --mount-proc "$@"
