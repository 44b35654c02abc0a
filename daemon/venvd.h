/* SPDX-License-Identifier: MIT */
/* The daemon's one object, handed to every room. */
#ifndef VENVD_VENVD_H
#define VENVD_VENVD_H
#include <stdbool.h>
#include <stdint.h>

#include "config.h"

struct event_base;

struct venvd {
	struct config config;
	struct event_base *base;
	struct root *root;
	struct store *store;
	struct index *index;
	struct nameless *nameless;
	struct replay *replay;
	struct jobs *jobs;
	struct interfaces *interfaces;
	struct server *server;
	struct retention *retention;
	struct pool *pool;
	struct watch *watch;
	struct events *events;
	int64_t started_at;             /* us */
	bool ready;                     /* the catalog and the root agree */
	bool stopping;
	bool purge;                     /* remove our own files at the end */
};

/* Begins the orderly end: no new work, unfinished creations are rolled back, then the loop ends. */
void venvd_stop(struct venvd *);
/* Something finished: ends the loop if we are stopping and nothing is left to wait for. */
void venvd_stop_if_idle(struct venvd *);
#endif
