#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make fault': every call that changes the file system is made to be the last one, or to fail (tests/fault/fault.py).
# tools/fault.sh --short takes some of them, --only rename one operation.
exec "$(dirname "$0")/harness.sh" tests/fault/fault.py "$@"
