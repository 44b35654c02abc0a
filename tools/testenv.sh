#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What 'make check' needs beyond the build, fetched only if it is not there: packages of the system, and
# a Python environment in build/testenv made from tests/requirements.txt. Afterwards no network is used.
set -eu
cd "$(dirname "$0")/.."

missing=
# need COMMAND PACKAGE
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
need cc 'gcc libc6-dev'
need clang clang
need clang-tidy clang-tidy
need cppcheck cppcheck
need ctags universal-ctags
need mandoc mandoc
need shellcheck shellcheck
need socat socat
need nc netcat-openbsd
need strace strace
need ps procps
need valgrind valgrind
need zsh zsh
need fish fish
need tcsh tcsh
need bindfs bindfs
need python3 python3
if command -v pkg-config >/dev/null; then
	pkg-config --exists libevent_core || missing="$missing libevent-dev"
	pkg-config --exists sqlite3 || missing="$missing libsqlite3-dev"
	pkg-config --exists jansson || missing="$missing libjansson-dev"
	pkg-config --exists libmd || missing="$missing libmd-dev"
	pkg-config --exists inih || missing="$missing libinih-dev"
	pkg-config --exists cmocka || missing="$missing libcmocka-dev"
else
	missing="$missing pkg-config libevent-dev libsqlite3-dev libjansson-dev libmd-dev libinih-dev libcmocka-dev"
fi
/usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
# valgrind cannot start a program without the symbols of the dynamic linker.
[ -z "$(find /usr/lib/debug -name '*.debug' -print -quit 2>/dev/null)" ] && missing="$missing libc6-dbg"
# shellcheck disable=SC2086 # a list of words
[ -z "$missing" ] || tools/packages.sh $missing

# clang's own sanitizers and fuzzer, which Debian keeps apart.
if ! [ -e "$(clang -print-resource-dir)/lib/linux/libclang_rt.fuzzer-$(uname -m).a" ]; then
	tools/packages.sh "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
fi

# The environment knows its own path: a moved tree gets a new one.
stamp=build/testenv/made-from
wanted=$(pwd; cat tests/requirements.txt)
if [ "$(cat $stamp 2>/dev/null)" != "$wanted" ]; then
	echo 'making build/testenv from tests/requirements.txt'
	rm -rf build/testenv
	mkdir -p build
	/usr/bin/python3 -m venv build/testenv
	build/testenv/bin/python -m pip --quiet --disable-pip-version-check install -r tests/requirements.txt
	echo "$wanted" >$stamp
fi
