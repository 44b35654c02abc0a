#!/bin/sh
# SPDX-License-Identifier: MIT
# tools/libraries.sh PACKAGE...: one sentence for the first thing that the build needs and does not find.
set -u

missing() {
	sudo=
	[ "$(id -u)" -eq 0 ] || sudo='sudo '
	echo "$1 is missing: ${sudo}apt-get install -y $2" >&2
	exit 1
}

command -v "${CC:-cc}" >/dev/null || case ${CC:-cc} in
*clang*) missing "the compiler '$CC'" clang ;;
*) missing "the compiler '${CC:-cc}'" 'gcc libc6-dev' ;;
esac
command -v pkg-config >/dev/null || missing pkg-config pkg-config
for package; do
	pkg-config --exists "$package" && continue
	case $package in
	libevent_core) missing libevent libevent-dev ;;
	sqlite3) missing SQLite libsqlite3-dev ;;
	libmd) missing libmd libmd-dev ;;
	inih) missing inih libinih-dev ;;
	*) missing "$package" "lib$package-dev" ;;
	esac
done
