#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Fuzzes what reads foreign bytes: tests/fuzz/run.sh [SECONDS], each target so long (2), is the short form. The long one is
# tests/fuzz/run.sh [--restart] --runs N [TARGET...] ('make fuzz'): each target N times in all, by $PROCESSES processes
# (one a core), in slices; stopped at any time it goes on where it was, and says how often each target has run by now.
#
# What is found is written to build-san/fuzz/ and shown; it then belongs into tests/fuzz/corpus/TARGET, which all of
# these runs begin with. New inputs of interest are kept in build-san/fuzz/corpus/; tests/fuzz/run.sh --merge TARGET... takes
# the fewest of them that reach what all of them reach into the tree.
set -eu
cd "$(dirname "$0")/../.."
out=build-san/fuzz
seconds=2 runs='' restart='' merge='' targets=()
while [ $# -gt 0 ]; do
	case $1 in
	--runs) runs=$2; shift ;;
	--restart) restart=1 ;;
	--merge) merge=1 ;;
	[0-9]*) seconds=$1 ;;
	*) targets+=("$1") ;;
	esac
	shift
done
unset MAKEFLAGS MAKELEVEL BUILD
mkdir -p $out
make -s -j"$(nproc)" FUZZ=1 BUILD=$out fuzz-programs >$out/build.log 2>&1 || { cat $out/build.log; exit 1; }
if [ ${#targets[@]} -eq 0 ]; then
	for target in tests/fuzz/fuzz_*.c; do targets+=("$(basename "${target#*fuzz_}" .c)"); done
fi

# Allocations are what most targets do most of the time: little is kept of what was freed, and no stacks. Run by itself on
# what was found, without these options, a target shows them.
export ASAN_OPTIONS=malloc_context_size=1:quarantine_size_mb=1:max_malloc_fill_size=64:allocator_release_to_os_interval_ms=-1
export UBSAN_OPTIONS=print_stacktrace=1
# Some targets have files, in memory where that is possible.
TMPDIR=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)" venvd-fuzz.XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

# The interface descriptions are seeds, too.
mkdir -p $out/corpus/idl
cp proto/*.varlink $out/corpus/idl/

# dictionary TARGET: the words that what it tests knows, as they are in its sources; those of JSON with their quotes
dictionary() {
	case $1 in
	answer | order) grep -ohE '"[A-Za-z][A-Za-z-]{1,24}"' daemon/*.c daemon/worker/*.c | sed 's/"/\\"/g; s/.*/"&"/' ;;
	call | frame | reply) sed -n 's/^\(method\|error\) \([A-Za-z]*\).*/"\\"io.venvd.\2\\""/p' proto/io.venvd.varlink
		sed 's/#.*//' proto/io.venvd.varlink | grep -oE '[A-Za-z]{2,}' | sed 's/.*/"\\"&\\""/' ;;
	distinfo | moved | pyvenv) grep -ohE '"[^"\%]{2,30}"' daemon/worker/{distinfo,moved,pyvenv,record}.c ;;
	idl) grep -ohE '"[^"\%]{1,20}"' proto/idl.c ;;
	row) grep -ohE '"[A-Za-z]{2,}"' client/row.c client/cmd_list.c | sed 's/"/\\"/g; s/.*/"&"/' ;;
	esac | sort -u >"$out/$1.dict"
}

is_thorough() { [ $(($1 % 8)) -eq 0 ]; }

# options TARGET SLICE: how long its inputs are, and what else it is run with. Long ones take their time and mostly find what
# short ones do, and so do looks for what is never freed: every eighth slice has both, and the short form.
options() {
	local short=1024 long=4096
	case $1 in
	answer) [ $(($2 % 4)) -ne 2 ] || short=4096; long=12288 ;;      # a whole start is said in as much, and takes its time
	frame | order | reply) short=2048 ;;
	call | row) short=2048 long=70000 ;;
	catalog) short=32768 long=32768 ;;
	idl) short=4096 long=20000 ;;
	name) short=300 long=300 ;;
	esac
	if is_thorough "$2"; then echo "-max_len=$long"; else echo "-max_len=$short" -detect_leaks=0; fi
	[ ! -s "$out/$1.dict" ] || echo "-dict=$out/$1.dict"
	# Which inputs are rare costs more to know than it brings to so fast a target.
	echo -entropic=0 -timeout=20 -print_final_stats=1 "-artifact_prefix=$out/found-$1-"
}

# run TARGET SLICE LOG OPTION...: one process, from the corpus; its log is shown if it has found something
run() {
	local target=$1 slice=$2 log=$3 asan=$ASAN_OPTIONS
	shift 3
	# Those that jump out of a program that ends leave behind what it had.
	case $target in catalog | order | reply) asan=$asan:detect_leaks=0 ;; esac
	is_thorough "$slice" || asan=$asan:detect_leaks=0
	mkdir -p "$out/corpus/$target" "tests/fuzz/corpus/$target"
	# shellcheck disable=SC2046 # lists of words
	ASAN_OPTIONS=$asan "$out/fuzz_$target" $(options "$target" "$slice") "$@" "$out/corpus/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1 && return
	grep -av "^#[0-9]" "$log" | tail -n 80
	return 1
}

executed() { awk '/^stat::number_of_executed_units: / { n += $2 } END { print n + 0 }' "$@"; }

short() {
	run "$1" 0 "$out/$1.log" -max_total_time="$seconds"
	grep -a '^Done' "$out/$1.log" | sed "s/^/fuzz_$1: /"
}

# A slice is short enough that little is lost with it, and that no process grows old.
long() {
	local target=$1 processes=${PROCESSES:-$(nproc)} count=$out/$1.runs so_far=0 spent=0 number=1 slice began pids logs p
	[ -z "$restart" ] || rm -f "$count"
	[ ! -e "$count" ] || read -r so_far spent <"$count"
	while [ "$so_far" -lt "$runs" ]; do
		slice=$(((runs - so_far + processes - 1) / processes))
		[ "$slice" -le "${SLICE:-200000}" ] || slice=${SLICE:-200000}
		began=$(date +%s%N) pids=() logs=()
		for ((p = 0; p < processes; p++)); do
			logs+=("$out/$target-$p.log")
			run "$target" $number "${logs[p]}" -runs="$slice" &
			pids+=($!)
		done
		for p in "${pids[@]}"; do wait "$p" || exit 1; done
		so_far=$((so_far + $(executed "${logs[@]}")))
		spent=$((spent + ($(date +%s%N) - began) / 1000000))
		echo "$so_far $spent" >"$count"
		number=$((number + 1))
	done
	echo "fuzz_$target: $so_far runs, $((so_far * 1000 / (spent + 1))) a second"
}

# Those with names were put there by hand, and stay.
merged() {
	local fresh
	fresh=$(mktemp -d)
	mkdir -p "$out/corpus/$1" "tests/fuzz/corpus/$1"
	# shellcheck disable=SC2046
	ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0 "$out/fuzz_$1" $(options "$1" 0) -set_cover_merge=1 -use_counters=0 "$fresh" \
		"tests/fuzz/corpus/$1" "$out/corpus/$1" >"$out/$1.log" 2>&1 || { tail -n 20 "$out/$1.log"; exit 1; }
	find "tests/fuzz/corpus/$1" -type f -regextype posix-egrep -regex '.*/[0-9a-f]{40}' -delete
	cp "$fresh"/* "tests/fuzz/corpus/$1/"
	rm -rf "$fresh"
	echo "fuzz_$1: $(find "tests/fuzz/corpus/$1" -type f | wc -l) inputs"
}

for target in "${targets[@]}"; do
	dictionary "$target"
	if [ -n "$merge" ]; then merged "$target"; elif [ -n "$runs" ]; then long "$target"; else short "$target"; fi
done
