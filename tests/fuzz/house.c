/* SPDX-License-Identifier: MIT */
/*
 * See house.h. Takes the places of root.c, watch.c, store.c, spawn.c, log.c and of venvd.c's main: the loop is turned from
 * here. waitpid(), kill(), event_new(), event_add() and event_base_once() are wrapped (rules.mk): a worker's end is told by
 * its number, and an event that is due at once means that the loop has something to do. So are the clock and chance: an
 * input does the same thing whenever it comes. Sockets are those of sockets.c.
 *
 * Invariants that house_close() asserts, whatever came in: every operation has ended, no order and no worker is
 * left, and each row of the catalog is the environment of that id in the index, with its name and state (but
 * where its intent has the next start decide), and the other way round.
 */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "bounds.h"
#include "entries.h"
#include "events.h"
#include "house.h"
#include "index.h"
#include "job.h"
#include "log.h"
#include "method.h"
#include "nameless.h"
#include "operation.h"
#include "pool.h"
#include "replay.h"
#include "retention.h"
#include "root.h"
#include "server.h"
#include "sockets.h"
#include "spawn.h"
#include "store_queue.h"
#include "watch.h"

#define HOUSE_TURNS 20000       /* more for one input is a loop that does not end */
#define HOUSE_WORKERS 64        /* at a time; a further one cannot be started */
#define HOUSE_ROWS 512
#define HOUSE_DEATHS 4096       /* of workers: each takes a word, or is one of LIMIT_WORKER_RESTARTS over one order */

struct venvd house;
bool house_disk_is_full;

static unsigned due;            /* events that were to fire at once */
static unsigned spoken;         /* sends of workers */
static bool left_behind;        /* something went wrong twice, and the next start settles it */

/* --- log.c --- */

/* What is written is made harmless there, in one place; here it only counts that it can be. */
static void PRINTF_LIKE(1, 0) house_log(const char *fmt, va_list ap)
{
	static char line[1024];
	vsnprintf(line, sizeof(line), fmt, ap);
	left_behind |= strstr(line, "could not be taken away") != NULL;
}

#define HOUSE_LOG(name) \
	void name(const char *fmt, ...) \
	{ \
		va_list ap; \
		va_start(ap, fmt); \
		house_log(fmt, ap); \
		va_end(ap); \
	}
HOUSE_LOG(log_info)
HOUSE_LOG(log_warning)
HOUSE_LOG(log_error)

/* --- root.c, watch.c: a root that stays as it is --- */

int root_fd(const struct root *r)
{
	(void)r;
	return 0;
}

int root_state_fd(const struct root *r)
{
	(void)r;
	return -1;
}

char *root_changed(const struct root *r)
{
	(void)r;
	return NULL;
}

const char *root_real(const struct root *r)
{
	(void)r;
	return "/r";
}

void watch_ended(struct watch *w, const struct environment *env)
{
	(void)w, (void)env;
}

void watch_look_into(struct watch *w, const struct environment *env)
{
	(void)w, (void)env;
}

uint64_t watch_looks(const struct watch *w)
{
	(void)w;
	return 0;
}

void watch_changed(struct watch *w, const struct environment *env)
{
	(void)w, (void)env;
}

bool watch_defer(struct watch *w, const char *name, struct request *r, void (*fn)(struct venvd *, struct request *))
{
	(void)w, (void)name, (void)r, (void)fn;
	return false;
}

void watch_base(struct watch *w, const struct environment *env)
{
	(void)w, (void)env;
}

/* --- venvd.c: the beginning of the end --- */

void venvd_stop_if_idle(struct venvd *v)
{
	(void)v;
}

void venvd_stop(struct venvd *v)
{
	if (v->stopping)
		return;
	v->stopping = true;
	pool_stop(v->pool);
	operation_cancel_all();
	jobs_cancel_all(v->jobs);
}

/* --- util.c: time and chance --- */

#define HOUSE_BEGAN_US 1700000000000000
#define HOUSE_CLOCK_US 20       /* each look at the clock takes so long: many calls are more than one turn's work */

static int64_t clock_us;
static uint64_t chance;

int64_t __wrap_now_us(void);
int64_t __wrap_monotonic_us(void);
ssize_t __wrap_getrandom(void *, size_t, unsigned);

int64_t __wrap_now_us(void)
{
	return clock_us += HOUSE_CLOCK_US;
}

int64_t __wrap_monotonic_us(void)
{
	return clock_us += HOUSE_CLOCK_US;
}

/* An input may know what comes by chance, and say it before; a worker does not. */
static bool was_foreseen(void)
{
	char id[17];
	const unsigned char *bytes = (const unsigned char *)&chance;
	for (size_t i = 0; i < sizeof(chance); i++)
		snprintf(id + 2 * i, 3, "%02x", bytes[i]);
	return index_get_id(house.index, id) != NULL || nameless_get(house.nameless, id) != NULL;
}

ssize_t __wrap_getrandom(void *data, size_t len, unsigned flags)
{
	(void)flags;
	assert(len == sizeof(chance));
	do
		chance = chance * 6364136223846793005 + 1442695040888963407;
	while (was_foreseen());
	memcpy(data, &chance, len);
	return (ssize_t)len;
}

/* --- store.c: rows in memory, committed a turn later --- */

struct store {
	struct store_queue queue, kept;
	struct environment *rows[HOUSE_ROWS];
	size_t count;
};

static void store_drop_at(struct store *s, size_t i)
{
	environment_free(s->rows[i]);
	s->rows[i] = s->rows[--s->count];
}

/* Else the catalog is damaged, and the daemon ends (schema/, store.c); or the next start takes it for something else (nameless.c). */
static void row_fits(const struct environment *env)
{
	bool nameless = env->state == STATE_MISSING && env->name[0] == '.' && strcmp(env->name + 1, env->id) == 0;
	assert(strlen(env->id) == 16 && (entries_fits(env->name) || nameless) && (env->new_name == NULL || entries_fits(env->new_name)));
	assert(env->location == NULL || *env->location == '/');
}

/* As the catalog's keys have it: one row an id, one live row a name. */
static void store_apply(struct store *s, struct store_op *op)
{
	const struct environment *env = op->env;
	for (size_t i = s->count; i-- > 0;) {
		const struct environment *row = s->rows[i];
		bool same = strcmp(row->id, env != NULL ? env->id : op->id != NULL ? op->id : "") == 0;
		bool name = env != NULL && env->state != STATE_TRASHED && row->state != STATE_TRASHED &&
		    strcmp(row->name, env->name) == 0;
		if ((op->kind == STORE_OP_PUT || op->kind == STORE_OP_DROP) && (same || name))
			store_drop_at(s, i);
	}
	if (op->kind != STORE_OP_PUT)
		return;
	row_fits(env);
	assert(s->count < HOUSE_ROWS);
	s->rows[s->count++] = op->env;
	op->env = NULL;
}

static bool store_commit(struct store *s)
{
	struct store_queue all;
	struct store_op *op;
	bool ok = !house_disk_is_full, any = s->queue.first != NULL || (ok && s->kept.first != NULL);
	store_queue_init(&all);
	store_queue_move(&all, &s->kept);
	store_queue_move(&all, &s->queue);
	while ((op = store_queue_take(&all)) != NULL) {
		if (!ok && op->done == NULL) {
			store_queue_add(&s->kept, op);
			continue;
		}
		if (ok)
			store_apply(s, op);
		if (op->done != NULL)
			op->done(ok, op->arg);
		store_op_free(op);
	}
	return any;
}

void store_put_both(struct store *s, const struct environment *env, const struct store_request *request,
    store_done_fn *done, void *arg)
{
	struct store_op *op = store_op_new(STORE_OP_PUT, done, arg);
	op->env = environment_copy(env);
	op->request = request != NULL ? store_request_copy(request) : NULL;
	store_queue_add(&s->queue, op);
}

void store_put(struct store *s, const struct environment *env, store_done_fn *done, void *arg)
{
	store_put_both(s, env, NULL, done, arg);
}

void store_drop(struct store *s, const char *id, const struct store_request *request, store_done_fn *done, void *arg)
{
	struct store_op *op = store_op_new(STORE_OP_DROP, done, arg);
	op->id = xstrdup(id);
	op->request = request != NULL ? store_request_copy(request) : NULL;
	store_queue_add(&s->queue, op);
}

void store_put_request(struct store *s, const struct store_request *request, store_done_fn *done, void *arg)
{
	struct store_op *op = store_op_new(STORE_OP_PUT_REQUEST, done, arg);
	op->request = store_request_copy(request);
	store_queue_add(&s->queue, op);
}

void store_drop_request(struct store *s, const char *id)
{
	struct store_op *op = store_op_new(STORE_OP_DROP_REQUEST, NULL, NULL);
	op->id = NULL;
	(void)id;
	store_queue_add(&s->queue, op);
}

void store_drop_requests(struct store *s, int64_t older_than_us)
{
	struct store_op *op = store_op_new(STORE_OP_DROP_REQUESTS, NULL, NULL);
	op->older_than_us = older_than_us;
	store_queue_add(&s->queue, op);
}

/* What was asked before a start: of claims, deletions and renames that were under way, of what is there no more, twice, of
 * no method. */
static const struct {
	const char *id, *method, *environment_id, *error;
} house_requests[] = {
	{ "r1", "io.venvd.Create", "000000000000000a", NULL }, { "r2", "io.venvd.Delete", "000000000000000b", NULL },
	{ "r3", "io.venvd.Rename", "000000000000000f", NULL }, { "r4", "io.venvd.Restore", "0000000000000006", NULL },
	{ "r5", "io.venvd.Create", "00000000000000ff", "io.venvd.AlreadyExists" }, { "r5", "x", "", NULL },
	{ "r6", "Restore", "0000000000000007", NULL }, { "r7", "io.venvd.Delete", "0000000000000011", NULL },
};

int store_load(struct store *s, void (*row)(struct environment *, void *),
    void (*request)(struct store_request *, void *), void *arg)
{
	for (size_t i = 0; i < s->count; i++)
		row(environment_copy(s->rows[i]), arg);
	for (size_t i = 0; i < ARRAY_LENGTH(house_requests); i++) {
		struct store_request one = { .id = xstrdup(house_requests[i].id), .method = xstrdup(house_requests[i].method),
			.error = xstrdup(house_requests[i].error), .at_us = now_us() };
		snprintf(one.environment_id, sizeof(one.environment_id), "%s", house_requests[i].environment_id);
		struct store_request *copy = store_request_copy(&one);
		free(one.id), free(one.method), free(one.error);
		request(copy, arg);
	}
	return 0;
}

static void store_free(struct store *s)
{
	struct store_op *op;
	while ((op = store_queue_take(&s->queue)) != NULL || (op = store_queue_take(&s->kept)) != NULL)
		store_op_free(op);
	while (s->count > 0)
		environment_free(s->rows[--s->count]);
	free(s);
}

/* --- spawn.c: a worker is the other end of its socket --- */

static struct house_worker workers[HOUSE_WORKERS];
static size_t worker_count;
static pid_t worker_last;

static struct event *sigchld;

struct event *__real_event_new(struct event_base *, evutil_socket_t, short, event_callback_fn, void *);
struct event *__wrap_event_new(struct event_base *, evutil_socket_t, short, event_callback_fn, void *);
int __real_event_add(struct event *, const struct timeval *);
int __real_event_base_once(struct event_base *, evutil_socket_t, short, event_callback_fn, void *, const struct timeval *);
int __wrap_event_base_once(struct event_base *, evutil_socket_t, short, event_callback_fn, void *, const struct timeval *);
int __wrap_event_add(struct event *, const struct timeval *);
pid_t __wrap_waitpid(pid_t, int *, int);
int __wrap_kill(pid_t, int);

/* The one signal that is waited for is none: house_end() gives its event to the loop. */
struct event *__wrap_event_new(struct event_base *base, evutil_socket_t fd, short what, event_callback_fn fn, void *arg)
{
	struct event *event = __real_event_new(base, fd, what, fn, arg);
	if (what & EV_SIGNAL)
		sigchld = event;
	return event;
}

int __wrap_event_add(struct event *event, const struct timeval *tv)
{
	if (event == sigchld)
		return 0;
	due += tv != NULL && tv->tv_sec == 0 && tv->tv_usec == 0;
	return __real_event_add(event, tv);
}

int __wrap_event_base_once(struct event_base *base, evutil_socket_t fd, short what, event_callback_fn fn, void *arg,
    const struct timeval *tv)
{
	due++;
	return __real_event_base_once(base, fd, what, fn, arg, tv);
}

int spawn_init(struct spawn *s, int root, int state, int lock, char **ret_why)
{
	(void)root, (void)state, (void)lock, (void)ret_why;
	*s = (struct spawn){ -1, -1, -1, -1 };
	return 0;
}

void spawn_done(struct spawn *s)
{
	(void)s;
}

int spawn_high_fd(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

int spawn_worker(const struct spawn *s, int theirs, bool resident, pid_t *ret_pid)
{
	(void)s;
	/* Those that have been reaped make room. */
	if (worker_count == HOUSE_WORKERS) {
		size_t n = 0;
		for (size_t i = 0; i < worker_count; i++)
			if (!workers[i].reaped)
				workers[n++] = workers[i];
		worker_count = n;
	}
	if (worker_count == HOUSE_WORKERS)
		return EAGAIN;
	struct house_worker *w = &workers[worker_count++];
	*w = (struct house_worker){ .fd = spawn_high_fd(theirs), .pid = ++worker_last, .resident = resident };
	fcntl(w->fd, F_SETFL, O_NONBLOCK);
	frame_reader_init(&w->in, LIMIT_WORKER_FRAME);
	*ret_pid = w->pid;
	due++;
	return 0;
}

void house_end(struct house_worker *w, int status)
{
	if (w->fd < 0)
		return;
	close(w->fd);
	w->fd = -1;
	w->status = status;
	frame_reader_done(&w->in);
	event_active(sigchld, EV_SIGNAL, 1);
	spoken++;
}

pid_t __wrap_waitpid(pid_t which, int *ret_status, int flags)
{
	(void)which, (void)flags;
	for (size_t i = 0; i < worker_count; i++)
		if (workers[i].fd < 0 && !workers[i].reaped) {
			workers[i].reaped = true;
			*ret_status = workers[i].status;
			return workers[i].pid;
		}
	return 0;
}

int __wrap_kill(pid_t pid, int number)
{
	for (size_t i = 0; i < worker_count; i++)
		if (workers[i].pid == -pid)
			house_end(&workers[i], number);
	return 0;
}

bool house_say(struct house_worker *w, const char *text, size_t len)
{
	if (w->fd < 0)
		return false;
	ssize_t n = send(w->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	spoken++;
	return n == (ssize_t)len;
}

/* What has come for it; true if something has. */
static bool worker_turn(struct house_worker *w)
{
	static char buffer[64 * 1024];
	ssize_t n = w->fd < 0 ? -1 : recv(w->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	if (n < 0)
		return false;
	if (n == 0) {
		house_end(w, 0);
		return true;
	}
	frame_feed(&w->in, buffer, (size_t)n);
	size_t len;
	for (const char *frame; w->fd >= 0 && (frame = frame_next(&w->in, &len)) != NULL;)
		house_order(w, frame, len);
	return true;
}

/* --- the house --- */

static const struct {
	const char *name;
	enum environment_state state;
	const char *location;
	enum environment_intent intent;
	bool protected, starting;       /* starting: only there then */
	const char *new_name;
} house_rows[] = {
	{ "a", STATE_READY, NULL, INTENT_NONE, false, false, NULL },
	{ "b", STATE_READY, NULL, INTENT_NONE, true, false, NULL },
	{ "broken", STATE_BROKEN, NULL, INTENT_NONE, false, false, NULL },
	{ "else", STATE_READY, "/elsewhere/e", INTENT_NONE, false, false, NULL },
	{ "foreign", STATE_FOREIGN, NULL, INTENT_NONE, false, false, NULL },
	{ "missing", STATE_MISSING, NULL, INTENT_NONE, false, false, NULL },
	{ "old", STATE_TRASHED, NULL, INTENT_NONE, false, false, NULL },
	{ "old", STATE_TRASHED, NULL, INTENT_NONE, false, false, NULL },
	{ "a", STATE_TRASHED, NULL, INTENT_NONE, false, false, NULL },
	{ "made", STATE_CREATING, NULL, INTENT_CREATE, false, true, NULL },
	{ "claimed", STATE_CREATING, NULL, INTENT_CLAIM, false, true, NULL },
	{ "deleted", STATE_READY, NULL, INTENT_DELETE, false, true, NULL },
	{ "purged", STATE_TRASHED, NULL, INTENT_PURGE, false, true, NULL },
	{ "rebuilt", STATE_CREATING, "/elsewhere/r", INTENT_REBUILD, false, true, NULL },
	{ "far", STATE_CREATING, "/elsewhere/f", INTENT_CREATE, false, true, NULL },
	{ "named", STATE_READY, NULL, INTENT_NONE, false, true, "renamed" },
	{ "back", STATE_TRASHED, NULL, INTENT_NONE, false, true, "again" },
	{ "gone", STATE_READY, "/elsewhere/g", INTENT_DELETE, false, true, NULL },
	{ "purged-far", STATE_READY, "/elsewhere/p", INTENT_PURGE, false, true, NULL },
	{ "trashed-far", STATE_TRASHED, "/elsewhere/t", INTENT_NONE, false, true, NULL },
	{ "made", STATE_TRASHED, NULL, INTENT_NONE, false, true, NULL },
};

static struct environment *house_environment(size_t i)
{
	struct environment *env = environment_new(house_rows[i].name);
	snprintf(env->id, sizeof(env->id), "%016zx", i);
	env->state = house_rows[i].state;
	env->intent = house_rows[i].intent;
	env->location = xstrdup(house_rows[i].location);
	env->protected = house_rows[i].protected;
	env->new_name = xstrdup(house_rows[i].new_name);
	env->ino = 1000 + (int64_t)i;
	env->btime_ns = 1;
	env->created_at = now_us();
	env->interpreter = word("/usr/bin/python3");
	env->version = word("3.12.1");
	env->origin = word("created");
	if (env->state == STATE_TRASHED) {
		env->deleted_at = env->created_at + (int64_t)i;
		env->entry = xasprintf("%s~%zu~%s", env->name, i, env->id);
		retention_stamp(house.retention, env);
	} else if (env->intent == INTENT_DELETE) {
		env->deleted_at = env->created_at + (int64_t)i;
		env->entry = xasprintf("%s~%zu~%s", env->name, i, env->id);
	} else if (strcmp(env->name, "made") == 0) {
		env->entry = xasprintf("made~%zu~%016zx", ARRAY_LENGTH(house_rows) - 1, ARRAY_LENGTH(house_rows) - 1);
	}
	return env;
}

static void house_furnish(bool starting)
{
	for (size_t i = 0; i < ARRAY_LENGTH(house_rows); i++) {
		if (house_rows[i].starting && !starting)
			continue;
		struct environment *env = house_environment(i);
		house.store->rows[house.store->count++] = environment_copy(env);
		if (!starting)
			index_add(house.index, env);
		else
			environment_free(env);
	}
}

static void house_build(void)
{
	char name[] = "venvd", peek[] = "--peek", root[] = "--root", place[] = "/r";
	char *argv[] = { name, peek, root, place, NULL };
	struct event_config *how = event_config_new();
	config_read(&house.config, 4, argv);
	house.config.peek = false;
	house.config.value[CONFIG_JOBS_RUNNING] = 2;
	signal(SIGPIPE, SIG_IGN);
	/* Watching and not watching a descriptor in one turn costs no system call. */
	event_config_set_flag(how, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
	house.base = event_base_new_with_config(how);
	event_config_free(how);
	house.interfaces = interfaces_new();
}

void house_open(bool starting)
{
	char *why = NULL;
	if (house.base == NULL)
		house_build();
	house.stopping = house.purge = false;
	house.ready = !starting;
	house_disk_is_full = left_behind = false;
	sockets_begin();
	clock_us = HOUSE_BEGAN_US;
	chance = 0;
	worker_count = 0;
	worker_last = 100000;
	house.store = xcalloc(1, sizeof(*house.store));
	store_queue_init(&house.store->queue);
	store_queue_init(&house.store->kept);
	house.index = index_new();
	house.nameless = nameless_new();
	house.replay = replay_new(&house);
	house.retention = retention_new(&house);
	house.pool = pool_new(&house);
	house.jobs = jobs_new(&house, -1, -1, -1, &why);
	assert(house.jobs != NULL);
	house.events = events_new(&house);
	house_furnish(starting);
}

bool house_turn(void)
{
	unsigned before = due + spoken;
	bool any = false;
	event_base_loop(house.base, EVLOOP_NONBLOCK);
	any |= store_commit(house.store);
	for (size_t i = 0; i < worker_count; i++)
		any |= worker_turn(&workers[i]);
	any |= house_beside();
	return any || due + spoken != before;
}

void house_settle(void)
{
	/* A turn in which nothing happens may be one that only took bytes from the kernel. */
	int turns = 0;
	for (int quiet = 0; quiet < 2; turns++) {
		quiet = house_turn() ? 0 : quiet + 1;
		assert(turns < HOUSE_TURNS);
	}
}

static size_t house_index_size(void)
{
	size_t size = nameless_count(house.nameless);
	for (int state = 0; state < STATE_COUNT; state++)
		size += index_count(house.index, state);
	return size;
}

static void house_show(const char *what, const struct environment *env)
{
	fprintf(stderr, "%s: %s '%s' %s, intent %d%s%s\n", what, env->id, env->name, environment_state_name(env->state),
	    (int)env->intent, env->busy != NULL ? ", busy" : "", env->location != NULL ? ", elsewhere" : "");
}

/* For whoever looks at what was found. */
static void house_show_all(void)
{
	for (size_t i = 0; i < house.store->count; i++)
		house_show("row", house.store->rows[i]);
	for (const struct environment *env = index_next(house.index, NULL); env != NULL;
	    env = index_next(house.index, env->name))
		house_show("index", env);
	for (const struct environment *env = index_trash_next(house.index, NULL, 0, NULL); env != NULL;
	    env = index_trash_next(house.index, env->name, env->deleted_at, env->id))
		house_show("trash", env);
	const struct environment *env;
	for (size_t at = 0; (env = nameless_next(house.nameless, &at)) != NULL;)
		house_show("nameless", env);
}

static void house_agrees(void)
{
	const struct store *s = house.store;
	size_t size = house_index_size();
	bool agrees = true;
	for (size_t i = 0; i < s->count; i++) {
		const struct environment *row = s->rows[i], *env = index_get_id(house.index, row->id);
		if (env == NULL)
			env = nameless_get(house.nameless, row->id);
		/* What another one was to replace, when neither could be taken back. */
		if (env == NULL && left_behind && row->state == STATE_TRASHED) {
			size++;
			continue;
		}
		bool same = env != NULL && env->busy == NULL && strcmp(env->name, row->name) == 0 &&
		    (env->location == NULL) == (row->location == NULL) &&
		    (env->state == row->state || row->intent != INTENT_NONE);
		if (!same)
			house_show("not as its row", row);
		agrees = agrees && same;
	}
	if (!agrees || size != s->count)
		house_show_all();
	assert(agrees && size == s->count);
}

void house_end_under_way(void)
{
	for (int i = 0; i < HOUSE_DEATHS && !(jobs_idle(house.jobs) && operation_none()); i++) {
		for (size_t k = 0; k < worker_count; k++)
			house_end(&workers[k], SIGKILL);
		house_settle();
	}
}

void house_close(void)
{
	house_disk_is_full = false;
	house_settle();
	venvd_stop(&house);
	house_settle();
	house_end_under_way();
	assert(operation_none() && jobs_idle(house.jobs));
	house_agrees();
	jobs_close(house.jobs);
	house_settle();
	assert(jobs_gone(house.jobs));
	jobs_free(house.jobs);
	events_free(house.events);
	pool_free(house.pool);
	retention_free(house.retention);
	replay_free(house.replay);
	nameless_free(house.nameless);
	index_free(house.index);
	store_free(house.store);
}
