/* SPDX-License-Identifier: MIT */
#ifndef VENVCTL_CALLER_H
#define VENVCTL_CALLER_H
#include <jansson.h>

/* What a request takes along from our process (type Caller of the interface). Owned. */
json_t *caller_new(void);
#endif
