#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make soak': very many calls, crowds, hostile clients, restarts under load (tests/soak/soak.py); some ten minutes on a
# quiet machine. tools/soak.sh --short is all of it in seconds, --only restarts one part.
exec "$(dirname "$0")/harness.sh" tests/soak/soak.py "$@"
