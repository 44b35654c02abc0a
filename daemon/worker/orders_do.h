/* SPDX-License-Identifier: MIT */
/*
 * The orders of proto/orders.h, one function each. 0 with *ret, the answer's fields (owned; NULL = none),
 * or -1 with the failure set; failure_is_gone() then means that nobody is there to be answered.
 */
#ifndef VENVD_WORKER_ORDERS_DO_H
#define VENVD_WORKER_ORDERS_DO_H
#include <jansson.h>
#include "failure.h"

int do_create(json_t *order, json_t **ret, struct failure *);          /* create.c */
int do_clone(json_t *order, json_t **ret, struct failure *);           /* duplicate.c */
int do_rename(json_t *order, json_t **ret, struct failure *);          /* rename.c */
int do_settle(json_t *order, json_t **ret, struct failure *);
int do_diagnose(json_t *order, json_t **ret, struct failure *);        /* diagnose.c */
int do_repair(json_t *order, json_t **ret, struct failure *);          /* repair.c */
int do_purge(json_t *order, json_t **ret, struct failure *);           /* purge.c */
int do_purge_name(json_t *order, json_t **ret, struct failure *);
int do_purge_state(json_t *order, json_t **ret, struct failure *);
int do_scan(json_t *order, json_t **ret, struct failure *);            /* scan.c */
int do_inspect(json_t *order, json_t **ret, struct failure *);         /* inspect.c */
int do_interpreters(json_t *order, json_t **ret, struct failure *);    /* interpreters.c */
int do_resolve(json_t *order, json_t **ret, struct failure *);         /* interpreters.c */
int do_python(json_t *order, json_t **ret, struct failure *);
int do_image(json_t *order, json_t **ret, struct failure *);           /* fill.c */
int do_fill(json_t *order, json_t **ret, struct failure *);
int do_evict(json_t *order, json_t **ret, struct failure *);
int do_packages(json_t *order, json_t **ret, struct failure *);        /* distinfo.c */

/* What is under these names of the root; owned. (scan.c) */
json_t *scan_look(const json_t *names);

/* The resident's: does all of them, one sync, answers all. Takes the orders. (short.c) */
void do_short(json_t **orders, size_t count);
/* What can be done before the next message comes. */
void do_meanwhile(void);
#endif
