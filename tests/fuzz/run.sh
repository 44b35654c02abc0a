#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Fuzzes what reads foreign bytes: tests/fuzz/run.sh [SECONDS], each target so long (3). What is found is
# written to build-san/fuzz/ and shown; new inputs of interest are kept there for the next run.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-3}
out=build-san/fuzz
mkdir -p $out/call $out/idl
unset MAKEFLAGS MAKELEVEL
make generated >/dev/null

number=0
while read -r call; do
	number=$((number + 1))
	printf '\377%s\0' "$call" >"$out/call/seed$number"
done <<'END'
{"method":"org.varlink.service.GetInfo","parameters":null}
{"method": "io.venvd.List", "more": false, "parameters": {}}
{"method":"io.venvd.List","more":true,"parameters":{"glob":"a*","state":"ready","fields":["path","id"]}}
{"method":"io.venvd.Create","parameters":{"name":"a","withoutPip":true,"caller":{"cwd":"/","umask":18,"environment":{"PIP_X":"\u00e9"}}},"oneway":true}
{"method":"io.venvd.Delete","parameters":{"name":"a\\","now":false,"requestId":"r"}}
[[[[[[[[[[[[[[[[[{}]]]]]]]]]]]]]]]]]
{"method":"io.venvd.Get","parameters":{"name":"\ud800"},"x.y":{"z":[1,-2,3e4]}}
END
cp proto/*.varlink $out/idl/

# What each target is made of, besides its own file and proto/.
sources() {
	case $1 in
	pyvenv) echo daemon/worker/pyvenv.c daemon/worker/pytext.c ;;
	moved) echo daemon/worker/moved.c daemon/worker/pytext.c daemon/worker/record.c ;;
	row) echo client/row.c ;;
	esac
}

for target in call idl name pyvenv moved row; do
	mkdir -p $out/$target
	corpus=
	[ ! -d tests/fuzz/corpus/$target ] || corpus=tests/fuzz/corpus/$target
	# shellcheck disable=SC2046,SC2086 # lists of words
	clang -std=c11 -D_GNU_SOURCE -iquote proto -iquote build/gen -iquote daemon/worker -iquote client -g -O1 \
		-fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
		-o $out/fuzz_$target tests/fuzz/fuzz_$target.c $(sources $target) proto/*.c -ljansson -lmd
	# shellcheck disable=SC2086
	if ! $out/fuzz_$target -max_total_time="$seconds" -max_len=70000 -timeout=5 -artifact_prefix=$out/found- \
		$out/$target $corpus >$out/$target.txt 2>&1; then
		tail -n 60 $out/$target.txt
		exit 1
	fi
	grep '^Done' $out/$target.txt | sed "s/^/fuzz_$target: /"
done
