#!/bin/bash
# SPDX-License-Identifier: MIT
#
# One path end to end under valgrind: the daemon and its workers (not the Pythons), and the client's
# commands. Nothing may be definitely lost, and there may be no error of any kind, in any of them.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${VENVD_BUILD:-build}
home=$(mktemp -d /tmp/venvd-valgrind.XXXXXX)
mkdir "$home/root"
unset VENVD_SOCKET WORKON_HOME VIRTUAL_ENV
export HOME=$home VENVD_ROOT=$home/root VENVD_AUTOSTART=0
daemon=
finish() {
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null
	wait
	rm -rf "$home"
}
trap finish EXIT
failed=0
fail() {
	echo "valgrind: $*"
	failed=1
}

tool=("$(command -v valgrind)" --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite
	--error-exitcode=99 --child-silent-after-fork=yes --log-file="$home/log.%p")

# The daemon runs its worker by descriptor, which valgrind cannot follow: a program that is no more than
# "valgrind venvd-worker" stands in the worker's place.
worker=$(realpath "$build/venvd-worker")
mkdir "$home/bin"
cp "$build/venvd" "$home/bin/"
{
	echo '#include <unistd.h>'
	echo 'int main(int argc, char **argv) { if (argc != 2) return 2; char *run[] = {'
	printf '"%s", ' "${tool[@]}"
	echo "\"$worker\", argv[1], NULL };"
	echo 'execv(run[0], run); return 127; }'
} | cc -x c -o "$home/bin/venvd-worker" - || exit 1

mkfifo "$home/ready"
# Questions to an interpreter take longer when everything does.
"${tool[@]}" "$home/bin/venvd" --root "$VENVD_ROOT" --ready-fd 7 -o probe-timeout=60000 \
	2>"$home/daemon.txt" 7>"$home/ready" &
daemon=$!
timeout 60 head -c 1 "$home/ready" >/dev/null || fail 'the daemon is not ready after a minute'

try() {
	timeout 120 "${tool[@]}" "$build/venvctl" "$@" >"$home/out.txt" 2>&1 || {
		fail "venvctl $* exited $?"
		cat "$home/out.txt"
	}
}
try create --without-pip -p /usr/bin/python3 projA
try list
try list --json
try show projA
try delete projA
try list --trash
try restore projA
try prompt
try status
try delete -y --now projA
try shutdown
timeout 60 tail --pid="$daemon" -f /dev/null || fail 'the daemon has not ended after a minute'
wait "$daemon" || fail "the daemon exited $?"
daemon=

programs=0
for log in "$home"/log.*; do
	programs=$((programs + 1))
	if ! grep -q 'ERROR SUMMARY: 0 errors' "$log"; then
		fail "$(grep -m 1 'Command:' "$log")"
		grep -v -e '^--' "$log" | head -n 60
	fi
done
[ "$programs" -gt 12 ] || fail "only $programs programs ran under valgrind"
[ "$failed" -eq 0 ] || { tail -n 20 "$home/daemon.txt"; exit 1; }
echo "$programs programs, definitely lost: 0 bytes, 0 errors"
