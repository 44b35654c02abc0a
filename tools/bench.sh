#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make bench': what it costs, as ratios measured side by side. The peers, each at its newest version from PyPI, get an
# environment of their own once (build/benchenv; 'make clean' takes it away). 'tools/bench.sh --short' only tries each
# row, without them; --only create, --only crowd are parts of it.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
export BUILD="${BUILD:-build}"
tools/testenv.sh
make -j"$(nproc)"
case " $* " in
*' --short '*) ;;
*)
	if ! [ -e build/benchenv/complete ]; then
		echo 'making build/benchenv: virtualenv and uv from PyPI'
		rm -rf build/benchenv
		if /usr/bin/python3 -m venv build/benchenv &&
			build/benchenv/bin/python -m pip --quiet --disable-pip-version-check install --upgrade virtualenv uv; then
			touch build/benchenv/complete
		else
			echo 'PyPI cannot be reached: no rows beside virtualenv and uv' >&2
			rm -rf build/benchenv
		fi
	fi
	;;
esac
export VENVD_BUILD="$BUILD" PYTHONDONTWRITEBYTECODE=1
exec build/testenv/bin/python tests/bench/bench.py "$@"
