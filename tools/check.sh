#!/bin/bash
# SPDX-License-Identifier: MIT
#
# 'make check': everything: lint, unit tests, the real programs end to end, both again
# under ASan and UBSan, one path under valgrind, conformance with two interpreters, some faults of each operation, some
# power cuts, some races, the soak in seconds, fuzzing for some seconds, and each row of the bench by itself at the end.
# Everything runs even if something before it failed, whose last lines are shown again at the end. The last line counts all of
# it; a part that is no test runner counts as one test. Exits 1 if anything failed.
set -u
cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MAKELEVEL SANITIZE
tools/testenv.sh || exit 1

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
: >"$out/counts"

# part NAME COMMAND...: runs it, shows what it says, keeps what its runner counted.
part() {
	local name=$1 began=$SECONDS log="$out/log.$BASHPID" status p f s
	shift
	echo "== $name"
	"$@" 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	read -r p f s < <(counted "$log")
	if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
	if [ "$status" -eq 0 ] && [ $((p + f + s)) -eq 0 ]; then p=1; fi
	echo "$p $f $s $name" >>"$out/counts"
	[ "$f" -eq 0 ] || { echo "== the end of what failed, $name:"; tail -n 30 "$log"; } >>"$out/failures"
	echo "== $name: $p passed, $f failed, $s skipped in $((SECONDS - began)) s"
}
# What cmocka ("[  PASSED  ] 7 test(s).") and pytest ("1 failed, 20 passed, 2 skipped in 3.1s") counted.
counted() {
	awk '
		/^\[  PASSED  \] [0-9]+ test/ { p += $4 }
		/^\[  FAILED  \] [0-9]+ test/ { f += $4 }
		/^\[  SKIPPED \] [0-9]+ test/ { s += $4 }
		/^=* ?[0-9]+ [a-z]+.* in [0-9.]+s/ {
			gsub(/[=,]/, "")
			for (i = 2; i <= NF; i++) {
				if ($i == "passed") p += $(i - 1)
				if ($i == "failed" || $i == "error" || $i == "errors") f += $(i - 1)
				if ($i == "skipped") s += $(i - 1)
			}
		}
		END { print p + 0, f + 0, s + 0 }' "$1"
}

part 'build' make -j"$(nproc)"
part 'build with sanitizers' make -j"$(nproc)" SANITIZE=1
part 'lint' tools/lint.sh
part 'unit' tools/unit.sh
part 'unit with sanitizers' env SANITIZE=1 BUILD=build-san tools/unit.sh
part 'end to end' tools/e2e.sh -m 'not everywhere'
part 'end to end with sanitizers' env SANITIZE=1 BUILD=build-san tools/e2e.sh -m 'not slow and not everywhere'

# Of these most have one processor to do with: two at a time.
faulty() {
	part 'valgrind' tests/e2e/valgrind.sh
	part 'conformance' tools/conformance.sh --short
	part 'fault' tools/fault.sh --short
	part 'model' tools/model.sh --short --no-variants --seed "${MODEL_SEED:-801}"   # always the same: it must not stop everybody
}
hostile() {
	part 'powercut' tools/powercut.sh --short
	part 'soak' tools/soak.sh --short
	part 'races' tools/races.sh --short
	part 'fuzz' tests/fuzz/run.sh
}
hostile >"$out/hostile" 2>&1 &
faulty
wait
cat "$out/hostile"
part 'bench' tools/bench.sh --short
[ ! -f "$out/failures" ] || cut -c1-400 "$out/failures"

awk -v took="$SECONDS" '
	{ p += $1; f += $2; s += $3 }
	$2 > 0 { sub(/^[0-9]+ [0-9]+ [0-9]+ /, ""); print "failed: " $0 }
	END { print "all of it took " took " s"; print p " passed, " f " failed, " s " skipped"; exit f > 0 }' "$out/counts"
