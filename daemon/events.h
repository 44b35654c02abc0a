/* SPDX-License-Identifier: MIT */
/* Who watches, and what they are told: the state first, then every change, in order. */
#ifndef VENVD_EVENTS_H
#define VENVD_EVENTS_H
#include "environment.h"
#include "venvd.h"

struct request;

struct events *events_new(struct venvd *);
void events_free(struct events *);
/* Takes the request over; it is answered until its client goes. */
void events_watch(struct events *, struct request *);
/* Something about this environment is another, or is about to be: its name, its state, a detail. The index says so of what
 * it does itself; whoever changes a detail says it. */
void events_changed(struct events *, const struct environment *);
#endif
