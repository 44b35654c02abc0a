#!/bin/sh
# SPDX-License-Identifier: MIT
#
# 'make quickstart': from a fresh clone to a first environment. Installs what the build needs and is
# not there, builds, installs for this user (root: for all), and uses the installed programs. Everything
# that is done already is left as it is: a second run needs neither network nor sudo.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL

missing=
command -v make >/dev/null || missing="$missing make"
command -v "${CC:-cc}" >/dev/null || missing="$missing gcc libc6-dev"
command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
if command -v pkg-config >/dev/null; then
	pkg-config --exists libevent_core || missing="$missing libevent-dev"
	pkg-config --exists sqlite3 || missing="$missing libsqlite3-dev"
	pkg-config --exists jansson || missing="$missing libjansson-dev"
	pkg-config --exists libmd || missing="$missing libmd-dev"
	pkg-config --exists inih || missing="$missing libinih-dev"
else
	missing="$missing pkg-config libevent-dev libsqlite3-dev libjansson-dev libmd-dev libinih-dev"
fi
# shellcheck disable=SC2086 # a list of words
[ -z "$missing" ] || tools/packages.sh $missing

prefix=$HOME/.local
[ "$(id -u)" -ne 0 ] || prefix=/usr/local
bin=$prefix/bin
make -j"$(nproc)"
make --no-print-directory install prefix="$prefix" DESTDIR= >/dev/null
echo "installed to $prefix"

# A daemon of another build goes on with the old program until it is restarted.
pid=$(VENVD_AUTOSTART=0 "$bin/venvctl" status --json 2>/dev/null | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p') || pid=
[ -z "$pid" ] || cmp -s "/proc/$pid/exe" "$bin/venvd" || "$bin/venvctl" restart

"$bin/venvctl" show projA >/dev/null 2>&1 || "$bin/venvctl" create projA
"$bin/venvctl" list
activate=$("$bin/venvctl" path projA)/bin/activate
case $activate in "$HOME"/*) activate=\~${activate#"$HOME"} ;; esac

echo
case :$PATH: in
*:"$bin":*) ;;
*) echo "Put venvctl on your PATH:    export PATH=\"$bin:\$PATH\"" ;;
esac
echo "Activate the environment:    source $activate"
