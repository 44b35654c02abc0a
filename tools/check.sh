#!/bin/bash
# SPDX-License-Identifier: MIT
#
# 'make check': everything, in this order: lint, unit tests, the real programs end to end, both again
# under ASan and UBSan, one path under valgrind, conformance with two interpreters, some faults of each operation, some
# power cuts, some races, the soak in seconds, each row of the bench, fuzzing for some seconds.
# Everything runs even if something before it failed. The last line counts all of it; a part that is no
# test runner counts as one test. Exits 1 if anything failed.
set -u
cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MAKELEVEL SANITIZE
tools/testenv.sh || exit 1

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
passed=0 failed=0 skipped=0 failures=()

# part NAME COMMAND...: runs it, shows what it says, adds up what its runner counted.
part() {
	local name=$1 began=$SECONDS status p f s
	shift
	echo "== $name"
	"$@" 2>&1 | tee "$out/log"
	status=${PIPESTATUS[0]}
	read -r p f s < <(counted)
	if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
	if [ "$status" -eq 0 ] && [ $((p + f + s)) -eq 0 ]; then p=1; fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	[ "$f" -eq 0 ] || failures+=("$name")
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
		END { print p + 0, f + 0, s + 0 }' "$out/log"
}

part 'build' make -j"$(nproc)"
part 'build with sanitizers' make -j"$(nproc)" SANITIZE=1
part 'lint' tools/lint.sh
part 'unit' tools/unit.sh
part 'unit with sanitizers' env SANITIZE=1 BUILD=build-san tools/unit.sh
part 'end to end' tools/e2e.sh -m 'not everywhere'
part 'end to end with sanitizers' env SANITIZE=1 BUILD=build-san tools/e2e.sh -m 'not slow and not everywhere'
part 'valgrind' tests/e2e/valgrind.sh
part 'conformance' tools/conformance.sh --short
part 'fault' tools/fault.sh --short
part 'model' tools/model.sh --short --no-variants --seed "${MODEL_SEED:-801}"   # always the same: it must not stop everybody
part 'powercut' tools/powercut.sh --short
part 'soak' tools/soak.sh --short
part 'races' tools/races.sh --short
[ ! -e tests/bench/bench.py ] || part 'bench' tools/bench.sh --short
[ ! -e tests/fuzz/run.sh ] || part 'fuzz' tests/fuzz/run.sh

[ "$failed" -eq 0 ] || printf 'failed: %s\n' "${failures[@]}"
echo "all of it took $SECONDS s"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
