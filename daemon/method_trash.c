/* SPDX-License-Identifier: MIT */
/*
 * EmptyTrash: what is in the trash goes, one after the other, each as when its time is over (retention.c). What
 * comes into the trash after the call stays; what somebody is busy with, and what cannot go, too.
 */
#include <string.h>

#include "index.h"
#include "job.h"
#include "method.h"
#include "retention.h"

struct emptying_all {
	struct venvd *venvd;
	struct request *request;
	int64_t before_us;
	char *name, id[17];             /* the cursor: what comes behind it is yet to be looked at; NULL: all */
	int64_t deleted_at;
	json_int_t removed;
	char *why;                      /* of the first that could not go */
};

static void empty_next(struct emptying_all *);

static void empty_end(struct emptying_all *e)
{
	struct venvd *v = e->venvd;
	request_on_gone(e->request, NULL, NULL);
	if (e->why != NULL)
		request_error(e->request, ERROR_FAILED, json_pack("{s:s}", "reason", e->why));
	else
		request_reply(e->request, json_pack("{s:I}", "removed", e->removed));
	free(e->name);
	free(e->why);
	free(e);
	retention_arm(v->retention);
	venvd_stop_if_idle(v);
}

static void empty_purged(const char *why, void *arg)
{
	struct emptying_all *e = arg;
	if (why == NULL)
		e->removed++;
	else if (e->why == NULL)
		e->why = xstrdup(why);
	empty_next(e);
}

/* The time that it has in the index changes when it could not be purged; the cursor is what it was before. */
static void empty_next(struct emptying_all *e)
{
	struct venvd *v = e->venvd;
	struct environment *env = v->stopping ? NULL :
	    index_trash_next(v->index, e->name, e->deleted_at, e->name != NULL ? e->id : NULL);
	while (env != NULL && (env->busy != NULL || env->deleted_at >= e->before_us))
		env = index_trash_next(v->index, env->name, env->deleted_at, env->id);
	if (env == NULL) {
		if (v->stopping && e->why == NULL)
			e->why = xstrdup("the daemon is ending");
		empty_end(e);
		return;
	}
	free(e->name);
	e->name = xstrdup(env->name);
	e->deleted_at = env->deleted_at;
	memcpy(e->id, env->id, sizeof(e->id));
	retention_purge(v->retention, env, empty_purged, e);
}

void method_empty_trash(struct venvd *v, struct request *r)
{
	const json_t *before = request_value(r, "deletedBefore");
	struct emptying_all *e = xcalloc(1, sizeof(*e));
	e->venvd = v;
	e->request = r;
	e->before_us = now_us();
	if (json_is_integer(before) && json_integer_value(before) < e->before_us)
		e->before_us = json_integer_value(before);
	empty_next(e);
}
