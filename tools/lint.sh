#!/bin/bash
# SPDX-License-Identifier: MIT
# 'make lint': what tools can see: compilers' warnings, analyzers, shell, Python, manual pages, and the
# rules of the house (tools/rules.py). Every part runs, in parallel; one that finds something fails it.
set -u
cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MAKELEVEL
tools/testenv.sh && make generated >/dev/null || exit 1

found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
mapfile -t sources < <(ls proto/*.c daemon/*.c daemon/worker/*.c client/*.c 2>/dev/null)
mapfile -t tests < <(ls tests/unit/*.c tests/fuzz/*.c 2>/dev/null)
mapfile -t scripts < <(ls tools/*.sh .ci/run tests/*/*.sh 2>/dev/null)
mapfile -t pages < <(ls daemon/venvd.8 daemon/venvd.conf.5 client/venvctl.1 proto/io.venvd.7 2>/dev/null)
flags=(-std=c11 -D_GNU_SOURCE '-DVENVD_VERSION="0"' -iquote proto -iquote build/gen -iquote daemon -iquote daemon/worker -iquote client)
warnings=(-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Werror)

# cppcheck reads no system headers, but cannot do without the lists' macros.
queue=$(echo '#include <sys/queue.h>' | gcc -E -x c - | sed -n 's/^# 1 "\(.*queue\.h\)".*/\1/p')

# check NAME COMMAND...: a part whose output is shown if it fails.
check() {
	local name=$1
	shift
	"$@" >"$found/$name.txt" 2>&1 || touch "$found/$name.failed"
}
# each FILE...: the command in $command once for each file, as many at a time as there are cores
# shellcheck disable=SC2317 # called through check
each() { printf '%s\0' "$@" | xargs -0 -I '{}' -P "$(nproc)" "${command[@]}"; }

check rules build/testenv/bin/python -B tools/rules.py
check shellcheck shellcheck "${scripts[@]}"
check ruff build/testenv/bin/ruff check --no-cache --quiet --select E4,E7,E9,F,B tests tools
[ ${#pages[@]} -eq 0 ] || check mandoc mandoc -Tlint -Wwarning "${pages[@]}"
for compiler in gcc clang; do
	command=("$compiler" "${flags[@]}" "${warnings[@]}" -O2 -c -o /dev/null '{}')
	check "$compiler" each "${sources[@]}" "${tests[@]}"
done
check cppcheck cppcheck -j2 --quiet --error-exitcode=1 --inline-suppr --std=c11 \
	--enable=warning,performance,portability --suppress=missingIncludeSystem \
	--suppress='*:/usr/include/*' --include="$queue" --include=/usr/include/jansson.h \
	-D_GNU_SOURCE '-DVENVD_VERSION="0"' -Iproto -Ibuild/gen "${sources[@]}"
# A ninth of clang-tidy's usual patience finds nearly as much in a quarter of the time.
command=(clang-tidy --quiet '{}' -- "${flags[@]}" -Xclang -analyzer-config -Xclang max-nodes=25000)
check clang-tidy each "${sources[@]}"

status=0
for part in rules shellcheck ruff mandoc gcc clang cppcheck clang-tidy; do
	[ -e "$found/$part.txt" ] || continue
	if [ -e "$found/$part.failed" ]; then
		echo "lint: $part:"
		grep -v ' warnings\? generated\.$\|^Suppressed \|^Use -header-filter' "$found/$part.txt"
		status=1
	else
		echo "lint: $part: fine"
	fi
done
exit $status
