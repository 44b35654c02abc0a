/* SPDX-License-Identifier: MIT */
/* The pool's buckets: what they are called, and the entries that wait in them. */
#ifndef VENVD_WORKER_BUCKET_H
#define VENVD_WORKER_BUCKET_H
#include <stddef.h>
#include <sys/types.h>

/* "KEY~UMASK", or "KEY~UMASK~copies~<8 hex of the path>" where the interpreter is copied. Owned. */
char *bucket_name(const char *image, mode_t mask, const char *copies);

/* Moves one of its entries to stage_fd/ENTRY. 0 with *ret_left; 1: there is none; -1 with errno, EEXIST if
 * stage_fd/ENTRY is there already. What a bucket held is remembered as long as it does not change. */
int bucket_take(int pool_fd, const char *bucket, int stage_fd, const char *entry, size_t *ret_left);
#endif
