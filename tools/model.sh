#!/bin/sh
# SPDX-License-Identifier: MIT
# 'make model': random steps on a real daemon and on a model of it, 100,000 of them (tests/model/model.py).
# tools/model.sh --short takes 10,000; --seed N begins with those of a seed; --replay FILE does the steps of a failure again.
exec "$(dirname "$0")/harness.sh" tests/model/model.py "$@"
