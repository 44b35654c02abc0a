/* SPDX-License-Identifier: MIT */
/* What renaming and cloning have in common: what may be moved or copied, to which name, and the order for it. */
#ifndef VENVD_RELOCATION_H
#define VENVD_RELOCATION_H
#include <jansson.h>

#include "environment.h"
#include "request.h"
#include "venvd.h"

/* One that is not whole, is nobody's, or is being worked on. Answered; true if refused. */
bool relocation_refuse_state(struct request *, const struct environment *env);
/* A name that is there already; one that only remembers a lost directory gives way. Answered; true if refused. */
bool relocation_refuse_taken(struct venvd *, struct request *, const char *name);

/* Where env is, absolute. Owned. */
char *relocation_path(const struct venvd *, const struct environment *env);
/* env's tree as orders take it (`source` of orders.h). Owned. */
json_t *relocation_source(const struct venvd *, const struct environment *env);
/* The order op (orders.h) that gives env's tree, or a copy of it, the name to. Owned. */
json_t *relocation_order(const struct venvd *, const char *op, const struct environment *env, const char *to,
    const char *entry);

/* env->new_name becomes its name; one from the trash is live then. The first for one that is in no index. */
void relocation_name(struct environment *env);
void relocation_named(struct venvd *, struct environment *env);
#endif
