/* SPDX-License-Identifier: MIT */
/*
 * The memory of request ids. Owns one record an id, found by id (a balanced tree of libc's) or by what it led to (a
 * hash: a start asks of each environment in the trash), and kept in order of age: a day, or the newest
 * LIMIT_REQUESTS_KEPT. A record holds no answer: a success is answered from the environment's row as it is now, only an
 * error's parameters are kept as text.
 *
 * Errors that say "not now" (Busy, RootUnavailable, NoSpace, ...) and cancelled calls are not kept: a
 * retry with the same id is then a first try.
 */
#include <assert.h>
#include <search.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include "bounds.h"
#include "index.h"
#include "method.h"
#include "operation.h"
#include "replay.h"

struct replay_record {
	struct store_request row;       /* first: the tree compares rows by id */
	struct operation *running;      /* NULL: ended */
	bool written;                   /* its success is on the disk, or on its way there with the environment's row */
	struct replay_record *next;     /* in its bucket; one that led to no environment is in none */
	TAILQ_ENTRY(replay_record) entry;
};

struct replay {
	struct venvd *venvd;
	void *tree;
	size_t count;
	struct replay_record **buckets; /* by the environment's id */
	size_t bucket_count;            /* a power of two, or 0 */
	TAILQ_HEAD(replay_records, replay_record) by_age;
};

static int replay_compare(const void *a, const void *b)
{
	return strcmp(((const struct store_request *)a)->id, ((const struct store_request *)b)->id);
}

struct replay *replay_new(struct venvd *v)
{
	struct replay *replay = xcalloc(1, sizeof(*replay));
	replay->venvd = v;
	TAILQ_INIT(&replay->by_age);
	return replay;
}

/* --- by what they led to --- */

static struct replay_record **replay_bucket(const struct replay *replay, const char *env_id)
{
	uint64_t hash = 14695981039346656037ull;
	for (const char *c = env_id; *c != '\0'; c++)
		hash = (hash ^ (unsigned char)*c) * 1099511628211ull;
	return &replay->buckets[(hash ^ hash >> 32) & (replay->bucket_count - 1)];
}

static void replay_link(struct replay *replay, struct replay_record *record)
{
	if (record->row.environment_id[0] == '\0')
		return;
	struct replay_record **bucket = replay_bucket(replay, record->row.environment_id);
	record->next = *bucket;
	*bucket = record;
}

static void replay_unlink(struct replay *replay, struct replay_record *record)
{
	if (record->row.environment_id[0] == '\0')
		return;
	struct replay_record **link = replay_bucket(replay, record->row.environment_id);
	while (*link != record)
		link = &(*link)->next;
	*link = record->next;
}

static void replay_lead(struct replay *replay, struct replay_record *record, const char *env_id)
{
	replay_unlink(replay, record);
	snprintf(record->row.environment_id, sizeof(record->row.environment_id), "%s", env_id);
	replay_link(replay, record);
}

static void replay_grow(struct replay *replay)
{
	struct replay_record *record;
	free(replay->buckets);
	replay->bucket_count = replay->bucket_count > 0 ? replay->bucket_count * 4 : 64;
	replay->buckets = xcalloc(replay->bucket_count, sizeof(struct replay_record *));
	TAILQ_FOREACH(record, &replay->by_age, entry)
		replay_link(replay, record);
}

/* --- by age --- */

static void replay_remove(struct replay *replay, struct replay_record *record)
{
	replay_unlink(replay, record);
	tdelete(record, &replay->tree, replay_compare);
	TAILQ_REMOVE(&replay->by_age, record, entry);
	replay->count--;
	free(record->row.id);
	free(record->row.method);
	free(record->row.error);
	free(record->row.parameters);
	free(record);
}

void replay_free(struct replay *replay)
{
	if (replay == NULL)
		return;
	struct replay_record *record;
	while ((record = TAILQ_FIRST(&replay->by_age)) != NULL)
		replay_remove(replay, record);
	free(replay->buckets);
	free(replay);
}

/* The oldest go when there are too many, or when their day is over. Running ones stay. Whose day is not over goes by its id:
 * a clock that was set back has made it seem newer than what has come since then. */
static void replay_expire(struct replay *replay)
{
	int64_t oldest = now_us() - LIMIT_REQUESTS_KEPT_US;
	bool over = false;
	struct replay_record *record, *next;
	for (record = TAILQ_FIRST(&replay->by_age); record != NULL; record = next) {
		next = TAILQ_NEXT(record, entry);
		if (replay->count <= LIMIT_REQUESTS_KEPT && record->row.at_us >= oldest)
			break;
		if (record->running != NULL)
			continue;
		if (record->row.at_us < oldest)
			over = true;
		else
			store_drop_request(replay->venvd->store, record->row.id);
		replay_remove(replay, record);
	}
	if (over)
		store_drop_requests(replay->venvd->store, oldest);
}

static void replay_insert(struct replay *replay, struct replay_record *record)
{
	if (tsearch(record, &replay->tree, replay_compare) == NULL)
		out_of_memory();
	if (replay->count >= replay->bucket_count)
		replay_grow(replay);
	TAILQ_INSERT_TAIL(&replay->by_age, record, entry);
	replay_link(replay, record);
	replay->count++;
}

static struct replay_record *replay_find(const struct replay *replay, const char *id)
{
	struct store_request key = { .id = (char *)(uintptr_t)id };
	struct replay_record *const *found = tfind(&key, &replay->tree, replay_compare);
	return found != NULL ? *found : NULL;
}

void replay_load(struct replay *replay, struct store_request *row)
{
	if (replay_find(replay, row->id) != NULL) {
		store_request_free(row);
		return;
	}
	struct replay_record *record = xcalloc(1, sizeof(*record));
	record->row = *row;
	free(row);
	replay_insert(replay, record);
}

/* Of the method and every parameter but the id itself. Sixteen digits: a mistake is caught, not an attack. */
static void replay_fingerprint(const struct request *r, char ret[17])
{
	json_t *parameters = json_copy(r->parameters);
	json_object_del(parameters, "requestId");
	char *text = json_dumps(parameters, JSON_SORT_KEYS | JSON_COMPACT);
	uint64_t hash = 14695981039346656037ull;
	for (const char *p = r->call.method; *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * 1099511628211ull;
	for (const char *p = text; p != NULL && *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * 1099511628211ull;
	snprintf(ret, 17, "%016llx", (unsigned long long)hash);
	free(text);
	json_decref(parameters);
}

static void replay_result(struct replay *replay, const struct replay_record *record, struct request *r)
{
	if (record->row.error != NULL) {
		json_t *parameters = record->row.parameters != NULL ?
		    json_loads(record->row.parameters, 0, NULL) : NULL;
		request_error(r, error_from_name(record->row.error), parameters);
		return;
	}
	const struct environment *env = index_get_id(replay->venvd->index, record->row.environment_id);
	if (env != NULL && env->state == STATE_TRASHED && env->intent == INTENT_PURGE)
		env = NULL;             /* nothing brings it back; its removal may take a while */
	if (env != NULL)
		request_reply(r, method_environment(replay->venvd, env));
	else if (strcmp(strrchr(r->call.method, '.'), ".Delete") == 0)
		request_reply(r, NULL);         /* deleted for good, then as now */
	else
		request_error(r, ERROR_NO_SUCH_ENVIRONMENT,
		    json_pack("{s:s*}", "name", request_string(r, "name")));
}

bool replay_answer(struct replay *replay, struct request *r)
{
	const char *id = request_string(r, "requestId");
	if (id == NULL)
		return false;
	if (id[0] == '\0' || strlen(id) > LIMIT_REQUEST_ID_BYTES) {
		request_invalid(r, "requestId");
		return true;
	}
	struct replay_record *record = replay_find(replay, id);
	if (record == NULL)
		return false;
	char fingerprint[17];
	replay_fingerprint(r, fingerprint);
	if (strcmp(record->row.fingerprint, fingerprint) != 0)
		request_invalid(r, "requestId");
	else if (record->running != NULL && r->conn != NULL)
		operation_attach(record->running, r);
	else if (record->running != NULL)
		request_reply(r, NULL);         /* to nobody: a oneway call has nothing to wait for */
	else
		replay_result(replay, record, r);
	return true;
}

struct replay_record *replay_begin(struct replay *replay, struct request *r, struct operation *op)
{
	const char *id = request_string(r, "requestId");
	if (id == NULL)
		return NULL;
	struct replay_record *record = xcalloc(1, sizeof(*record));
	record->row.id = xstrdup(id);
	record->row.method = xstrdup(r->call.method);
	record->row.at_us = now_us();
	replay_fingerprint(r, record->row.fingerprint);
	record->running = op;
	replay_insert(replay, record);
	replay_expire(replay);
	return record;
}

static bool replay_keeps(enum error_code code)
{
	return code != ERROR_CANCELLED && code != ERROR_BUSY && code != ERROR_SHUTTING_DOWN &&
	    code != ERROR_IN_USE && code != ERROR_PROTECTED && code != ERROR_ROOT_UNAVAILABLE && code != ERROR_NO_SPACE && code != ERROR_FAILED;
}

const struct store_request *replay_success(struct replay_record *record, const char *env_id)
{
	if (record == NULL)
		return NULL;
	replay_lead(record->running->venvd->replay, record, env_id);
	record->written = true;
	return &record->row;
}

void replay_take_back(struct replay *replay, struct replay_record *record)
{
	if (record == NULL || !record->written)
		return;
	record->written = false;
	store_drop_request(replay->venvd->store, record->row.id);
}

static bool replay_is_of(const struct replay_record *record, const char *env_id, const char *method, int64_t since_us)
{
	const char *dot = strrchr(record->row.method, '.');     /* none: so the catalog says, which was damaged */
	return record->row.error == NULL && record->row.at_us >= since_us &&
	    strcmp(record->row.environment_id, env_id) == 0 &&
	    (method == NULL || (dot != NULL && strcmp(dot + 1, method) == 0));
}

void replay_forget_environment(struct replay *replay, const char *env_id, const char *method, int64_t since_us)
{
	struct replay_record *record = replay->count > 0 ? *replay_bucket(replay, env_id) : NULL, *next;
	for (; record != NULL; record = next) {
		next = record->next;
		if (!replay_is_of(record, env_id, method, since_us))
			continue;
		store_drop_request(replay->venvd->store, record->row.id);
		replay_remove(replay, record);
	}
}

void replay_forget_rename(struct replay *replay, const char *env_id, int64_t since_us)
{
	struct replay_record *record = TAILQ_LAST(&replay->by_age, replay_records);
	while (record != NULL && (record->row.error != NULL || strcmp(record->row.environment_id, env_id) != 0))
		record = TAILQ_PREV(record, replay_records, entry);
	const char *method = record != NULL && record->row.at_us >= since_us ? strrchr(record->row.method, '.') : NULL;
	if (method == NULL || (strcmp(method, ".Rename") != 0 && strcmp(method, ".Restore") != 0))
		return;
	store_drop_request(replay->venvd->store, record->row.id);
	replay_remove(replay, record);
}

bool replay_end(struct replay *replay, struct replay_record *record, const char *env_id,
    enum error_code code, const json_t *parameters, store_done_fn *done, void *arg)
{
	if (record == NULL)
		return false;
	if (!replay_keeps(code)) {
		/* By our end: what was not taken back the next start brings to its own. */
		if (code != ERROR_SHUTTING_DOWN)
			replay_take_back(replay, record);
		replay_forget(replay, record);
		return false;
	}
	record->running = NULL;
	if (code == ERROR_NONE && record->written && strcmp(record->row.environment_id, env_id) == 0)
		return false;
	replay_lead(replay, record, env_id);
	if (code != ERROR_NONE) {
		char *text = json_dumps(parameters, JSON_COMPACT);
		record->row.error = xstrdup(error_name(code));
		record->row.parameters = xstrdup(text);
		free(text);
	}
	store_put_request(replay->venvd->store, &record->row, done, arg);
	return true;
}

void replay_forget(struct replay *replay, struct replay_record *record)
{
	if (record != NULL)
		replay_remove(replay, record);
}
