/* SPDX-License-Identifier: MIT */
/*
 * What renaming and cloning have in common: what may be moved or copied, to which name, the order for it, and its course:
 *
 *   a worker prepares all of it in the stage and says so ("reserved") -> a row that says what is to become of it, with what the
 *   request's id leads to -> "go": it is published, the root synced -> answer
 */
#ifndef VENVD_RELOCATION_H
#define VENVD_RELOCATION_H
#include <jansson.h>

#include "environment.h"
#include "job.h"
#include "operation.h"
#include "request.h"
#include "venvd.h"

/* One that is not whole, is nobody's, or is being worked on. Answered; true if refused. */
bool relocation_refuse_state(struct request *, const struct environment *env);
/* A name that is there already; one that only remembers a lost directory gives way. Answered, or dispatched again once what
 * was heard of the name has been looked at; true if so. */
bool relocation_refuse_taken(struct venvd *, struct request *, const char *name);

/* Where env is, absolute. Owned. */
char *relocation_path(const struct venvd *, const struct environment *env);
/* env's tree as orders take it (`source` of orders.h). Owned. */
json_t *relocation_source(const struct venvd *, const struct environment *env);
/* One under way: the first member of a renaming or a cloning. */
struct relocation {
	struct operation op;
	char *entry;                    /* of the stage */
	struct job *job;
	bool committing;                /* a row is on its way to the disk */
	bool has_row;
	bool went;                      /* "go" was said: from then on nobody can cancel it */
	void (*undo)(struct relocation *);      /* how its kind goes back, when neither a worker nor a row is under way */
};
/* Gives the order `what` for tree, by the name to; done has the relocation as its argument. Refused: it goes back. */
void relocation_start(struct relocation *, const char *what, const struct environment *tree, const char *to, job_frame_fn *,
    job_done_fn *done);
/* The worker has prepared it, and op.env says what is to become of it: "go" follows the row. */
void relocation_reserved(struct relocation *);
/* The worker's end. False: it has failed, and goes back. */
bool relocation_done(struct relocation *, enum error_code, const json_t *result);
/* Something has failed. */
void relocation_roll_back(struct relocation *);
/* op.cancel, until "go". */
void relocation_cancel(struct operation *);

/* env->new_name becomes its name; one from the trash is live then. The first for one that is in no index. */
void relocation_name(struct environment *env);
void relocation_named(struct venvd *, struct environment *env);
#endif
