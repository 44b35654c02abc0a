#!/bin/sh
# SPDX-License-Identifier: MIT
# tools/packages.sh PACKAGE...: installs Debian or Ubuntu packages; with sudo only where that is needed.
set -eu

if ! command -v apt-get >/dev/null; then
	echo "this machine has no apt-get; please install with its own package manager what Debian calls: $*" >&2
	exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "missing, and there is no sudo: ask for 'apt-get install -y $*' to be run as root" >&2
		exit 1
	fi
	as_root=sudo
fi
echo "installing with ${as_root:+sudo }apt-get: $*"
$as_root apt-get -qq update
$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
