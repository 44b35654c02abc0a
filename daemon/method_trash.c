/* SPDX-License-Identifier: MIT */
/*
 * EmptyTrash: what is in the trash goes, one after the other, each as when its time is over (retention.c). What
 * comes into the trash after the call stays: what goes is listed when it comes, for a clock that was set back tells
 * nothing of that. What somebody is busy with, and what cannot go, stays too.
 */
#include "index.h"
#include "job.h"
#include "method.h"
#include "retention.h"

struct emptying_all {
	struct venvd *venvd;
	struct request *request;
	json_t *ids;                    /* of what was there; the last of them is the next */
	json_int_t removed;
	char *why;                      /* of the first that could not go */
	json_t *warnings;               /* of what is left of others */
};

static void empty_next(struct emptying_all *);

static void empty_end(struct emptying_all *e)
{
	struct venvd *v = e->venvd;
	request_on_gone(e->request, NULL, NULL);
	if (v->stopping && (e->why != NULL || json_array_size(e->ids) > 0))     /* the next start goes on with the one begun */
		request_error(e->request, ERROR_SHUTTING_DOWN, NULL);
	else if (e->why != NULL)
		request_error(e->request, ERROR_FAILED, json_pack("{s:s}", "reason", e->why));
	else
		request_reply(e->request, json_pack("{s:I,s:O*}", "removed", e->removed, "warnings", e->warnings));
	json_decref(e->ids);
	json_decref(e->warnings);
	free(e->why);
	free(e);
	retention_arm(v->retention);
	venvd_stop_if_idle(v);
}

static void empty_purged(const char *why, const char *kept, void *arg)
{
	struct emptying_all *e = arg;
	method_warn(&e->warnings, kept);
	if (why == NULL)
		e->removed++;
	else if (e->why == NULL)
		e->why = xstrdup(why);
	empty_next(e);
}

static void empty_next(struct emptying_all *e)
{
	struct venvd *v = e->venvd;
	struct environment *env = NULL;
	while (!v->stopping && env == NULL && json_array_size(e->ids) > 0) {
		size_t last = json_array_size(e->ids) - 1;
		env = index_get_id(v->index, json_string_value(json_array_get(e->ids, last)));
		json_array_remove(e->ids, last);
		if (env != NULL && (env->busy != NULL || env->state != STATE_TRASHED))
			env = NULL;
	}
	if (env == NULL) {
		empty_end(e);
		return;
	}
	retention_purge(v->retention, env, empty_purged, e);
}

void method_empty_trash(struct venvd *v, struct request *r)
{
	const json_t *before = request_value(r, "deletedBefore");
	struct emptying_all *e = xcalloc(1, sizeof(*e));
	e->venvd = v;
	e->request = r;
	e->ids = json_array();
	for (const struct environment *env = index_trash_next(v->index, NULL, 0, NULL); env != NULL;
	    env = index_trash_next(v->index, env->name, env->deleted_at, env->id))
		if (!json_is_integer(before) || env->deleted_at < json_integer_value(before))
			json_array_append_new(e->ids, json_string(env->id));
	empty_next(e);
}
