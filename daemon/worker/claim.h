/* SPDX-License-Identifier: MIT */
/*
 * The order `claim`: from an entry of the pool to an environment. Begun, it waits in memory for the daemon's
 * "go"; published, for the sync of its batch.
 */
#ifndef VENVD_WORKER_CLAIM_H
#define VENVD_WORKER_CLAIM_H
#include "trash.h"

struct claim;

/* Takes the order: finds what is prepared for it, takes an entry, says `reserved`. NULL if it is answered already:
 * with what is missing, or an error. */
struct claim *claim_begin(json_t *order, const struct places *);
/* Writes what bears the path, without waiting for the disk. May fail: the claim then waits for nothing more. */
void claim_write(struct claim *);
/* Whether any waits for its message, and what can be done for those until it comes. */
bool claim_waits(void);
void claim_settle_waiting(const struct places *);
/* Keeps it until its message comes. */
void claim_wait(struct claim *);
/* The claim that a message {"id","go"} is for, which waits no more; NULL if there is none. */
struct claim *claim_told(json_t *message);
/* After "go", for all of a batch each: what makes the second possible, the renames. */
void claim_prepare(struct claim *, const struct places *);
void claim_publish(struct claim *, const struct places *);
/* Whether it has changed the root. */
bool claim_published(const struct claim *);
/* Whether it is over: to be finished. */
bool claim_is_over(const struct claim *);
/* Answers and frees it. */
void claim_finish(struct claim *, int sync_errno);
#endif
