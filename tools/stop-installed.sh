#!/bin/sh
# SPDX-License-Identifier: MIT
# tools/stop-installed.sh BINDIR: before 'make uninstall', ends this user's daemon if it runs from BINDIR.
set -u
bin=$1
[ -x "$bin/venvctl" ] || exit 0
pid=$(VENVD_AUTOSTART=0 "$bin/venvctl" status --json 2>/dev/null | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
[ -n "$pid" ] || exit 0
case $(readlink "/proc/$pid/exe") in
"$bin/venvd" | "$bin/venvd (deleted)")
	VENVD_AUTOSTART=0 "$bin/venvctl" shutdown && echo "the daemon (process $pid) has ended" ;;
esac
