#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make conformance': what venvd makes beside what 'python -m venv' makes, entry by entry, for every interpreter of
# this machine; first, whether the comparison sees what it must. tools/conformance.sh --short tries some of it;
# --python 3.12, --axis paths are parts of it.
set -eu
harness="$(dirname "$0")/harness.sh"
"$harness" -m pytest -p no:cacheprovider -q tests/conformance
exec "$harness" tests/conformance/conformance.py "$@"
