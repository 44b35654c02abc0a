/* SPDX-License-Identifier: MIT */
/* What else lies in the directory of an environment. */
#ifndef VENVD_WORKER_OTHERS_H
#define VENVD_WORKER_OTHERS_H
#include <jansson.h>

/* The first names, in order, of what no tool puts at the top of an environment, and how many more there are; owned. */
json_t *others_in(int env_fd, size_t *ret_more);
#endif
