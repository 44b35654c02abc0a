/* SPDX-License-Identifier: MIT */
/*
 * Workers: the resident one for short orders, and one for each long order. Queues with bounds,
 * deadlines, cancelling, replacement. Orders and frames are those of proto/orders.h.
 */
#ifndef VENVD_JOB_H
#define VENVD_JOB_H
#include <jansson.h>

#include "errors.h"
#include "venvd.h"

struct job;

/* Borrowed: the frame and its "frame" word; valid during the call. */
typedef void job_frame_fn(const char *kind, const json_t *frame, void *arg);
/* code ERROR_NONE: result is the whole answer. Else result holds the error's parameters. Borrowed.
 * The job is gone when this returns. */
typedef void job_done_fn(enum error_code code, const json_t *result, void *arg);

/* Opens the worker's binary (so that an upgrade changes nothing until we restart). root_fd and state_fd
 * may be -1. NULL with *ret_why, owned. */
struct jobs *jobs_new(struct venvd *, int root_fd, int state_fd, int lock_fd, char **ret_why);
void jobs_free(struct jobs *);

/* A long order, with its "id" added; takes order. NULL (and done is never called) when the queue is full
 * (never before we are ready) or we are closed. deadline_ms 0: none. */
struct job *job_start(struct jobs *, json_t *order, int64_t deadline_ms, job_frame_fn *frame,
    job_done_fn *done, void *arg);
/* The same for the next order of what has been begun: refused only when we are closed. Whoever gives it sees to it
 * that there are not many. */
struct job *job_continue(struct jobs *, json_t *order, int64_t deadline_ms, job_frame_fn *frame,
    job_done_fn *done, void *arg);
/* The same for what nobody waits for: it is run after all that somebody does wait for, and where two or more may
 * run it leaves one place free. */
struct job *job_start_background(struct jobs *, json_t *order, int64_t deadline_ms, job_frame_fn *frame,
    job_done_fn *done, void *arg);
/* Both: nobody waits for it, and there are not many. */
struct job *job_continue_background(struct jobs *, json_t *order, int64_t deadline_ms, job_frame_fn *frame,
    job_done_fn *done, void *arg);
void job_hurry(struct job *);                   /* somebody waits for it now */
void job_send(struct job *, json_t *frame);     /* to its worker, with "id" added; takes frame */
void job_cancel(struct job *);                  /* long ones; done follows, with ERROR_CANCELLED */

void jobs_cancel_all(struct jobs *);             /* every long one */

/* A short order for the resident worker; takes order. False when too many wait. */
bool jobs_short(struct jobs *, json_t *order, job_done_fn *done, void *arg);
/* The same for the next order of what has been begun, such as the way back: it is not refused because many wait. */
bool jobs_short_continue(struct jobs *, json_t *order, job_done_fn *done, void *arg);

/* One with frames that is never given to a second worker: when the resident dies it fails. job_send() speaks to
 * it; it is not cancelled but told so. NULL when too many wait. A resident that has not done it by the deadline hangs, and
 * is replaced. */
struct job *jobs_claim(struct jobs *, json_t *order, int64_t deadline_ms, job_frame_fn *frame, job_done_fn *done,
    void *arg);

/* Why a job failed, as a sentence for the log: the result's reason, else the error's name. Borrowed. */
const char *job_reason(enum error_code, const json_t *result);
/* The parameters of Busy when an order was refused for want of a place; name may be NULL. Owned. */
json_t *job_refused(const char *name);

size_t jobs_running(const struct jobs *);
size_t jobs_queued(const struct jobs *);
/* How many more would run at once if they were started now. */
size_t jobs_places(const struct jobs *);
bool jobs_idle(const struct jobs *);    /* no order of either kind is under way */
/* Lets go of the resident worker: when it has ended too, jobs_gone() is true. */
void jobs_close(struct jobs *);
bool jobs_gone(const struct jobs *);
void jobs_kill(struct jobs *);          /* everything, now */
#endif
