/* SPDX-License-Identifier: MIT */
/*
 * Comes before everything else in the worker's rooms (rules.mk): their variables lie together, so that fuzz_order.c can give
 * each input a worker that has just started. What they pointed to is never freed: one run of the program is short enough.
 */
#ifndef VENVD_FUZZ_SECTION_H
#define VENVD_FUZZ_SECTION_H
#pragma clang section bss = "fuzz_zero" data = "fuzz_data"
#endif
