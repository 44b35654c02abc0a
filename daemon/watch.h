/* SPDX-License-Identifier: MIT */
/*
 * What others do: one inotify watch on the root, one on each directory that holds base interpreters in use. Never one
 * inside an environment.
 */
#ifndef VENVD_WATCH_H
#define VENVD_WATCH_H
#include "environment.h"
#include "request.h"
#include "venvd.h"

/* Begins to listen, before the root is looked through: what happens from here on is not missed. */
struct watch *watch_new(struct venvd *);
void watch_free(struct watch *);
/* Catalog and root agree: what was heard meanwhile, and from now on, is looked at. */
void watch_start(struct watch *);

/* This environment is looked into, at the end of whatever is under way with it. */
void watch_look_into(struct watch *, const struct environment *);
/* How often something was concluded of the root: what a worker was asked before may be told after that. */
uint64_t watch_looks(const struct watch *);

/* An operation on this environment (NULL: one that is gone) has ended: names that waited for it are looked at, and its
 * base interpreter is watched. */
void watch_ended(struct watch *, const struct environment *);
/* The index has another state of it, or will have it no more. What the root has under the name of one elsewhere is nobody's for so
 * long, and is looked at then. */
void watch_changed(struct watch *, const struct environment *);
/* Whether something was heard of this name and is yet to be looked at: then the request is taken over, and given to fn when
 * it has been (or to nobody, when its client goes). */
bool watch_defer(struct watch *, const char *name, struct request *, void (*fn)(struct venvd *, struct request *));

/* Its base interpreter is watched from now on. */
void watch_base(struct watch *, const struct environment *);
#endif
