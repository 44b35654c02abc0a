/* SPDX-License-Identifier: MIT */
/*
 * venvd: keeps the Python virtual environments below one root. main() is the table of contents: what is
 * opened, in which order (the lock before the catalog, the catalog before the root is looked at, ready
 * before anybody is served), the loop, and the end in the opposite order.
 *
 * The end: no new work, creations are rolled back, what was promised is finished; when nothing is
 * under way the resident worker is let go and the loop ends. After LIMIT_STOP_MS what still runs is
 * killed: the next start settles it.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "bounds.h"
#include "events.h"
#include "frame.h"
#include "index.h"
#include "job.h"
#include "log.h"
#include "method.h"
#include "nameless.h"
#include "operation.h"
#include "pool.h"
#include "reconcile.h"
#include "replay.h"
#include "retention.h"
#include "root.h"
#include "server.h"
#include "store.h"
#include "venvd.h"
#include "watch.h"

#define PEEK_FD 3               /* the connection of a daemon that only looks */

static struct {
	struct event *term, *interrupt, *hangup, *store, *turn, *deadline;
	bool state_removed;
} venvd_events;

/* --- the beginning --- */

/* One line (and perhaps a hint) to whoever started us, then no more. */
static void venvd_tell_starter(struct venvd *v, const char *text)
{
	if (v->config.ready_fd < 0)
		return;
	fd_write_all(v->config.ready_fd, text, strlen(text));
	close(v->config.ready_fd);
	v->config.ready_fd = -1;
}

static void __attribute__((noreturn)) venvd_fail(struct venvd *v, const char *why)
{
	char *safe = text_printable_lines(why), *text = xasprintf("error: %s\n", safe);
	if (v->config.detached)
		for (char *rest = safe, *line; (line = strsep(&rest, "\n"));)
			log_error("%s", line);
	else
		fputs(text, stderr);
	venvd_tell_starter(v, text);
	free(safe);
	free(text);
	exit(1);
}

/* Whoever started us may have been in any state. The umask stays until the root is made with it. */
static void venvd_forget_caller(const struct venvd *v)
{
	static const int limits[] = { RLIMIT_NOFILE, RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_AS,
		RLIMIT_NPROC, RLIMIT_CORE };
	signal(SIGPIPE, SIG_IGN);
	/* Ours all are close-on-exec; what we were given must not reach a worker either. */
	close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
	for (size_t i = 0; i < (v->config.detached ? ARRAY_LENGTH(limits) : 1); i++) {
		struct rlimit limit;
		if (getrlimit(limits[i], &limit) == 0) {
			limit.rlim_cur = limit.rlim_max;
			setrlimit(limits[i], &limit);
		}
	}
	if (v->config.detached) {
		setsid();               /* fails, harmlessly, when the client's spawn did it */
		if (chdir("/") != 0)
			log_warning("cannot leave the working directory: %s", strerror(errno));
	}
	/* An ignored SIGCHLD would take our children's statuses away. */
	signal(SIGCHLD, SIG_DFL);
}

static void venvd_open_root(struct venvd *v)
{
	char *why = NULL;
	int holder = 0;
	enum root_result result = v->config.peek ? root_open_peek(v->config.root, &v->root, &why) :
	    root_open(v->config.root, &v->root, &holder, &why);
	umask(077);
	if (result == ROOT_SERVED) {
		_cleanup_free_ char *already = xasprintf("already %d\n", holder);
		if (v->config.detached) {
			venvd_tell_starter(v, already);
			exit(0);
		}
		why = xasprintf("root '%s' is held by venvd, process %d\nhint: venvctl --root '%s' status",
		    v->config.root, holder, v->config.root);
	}
	if (why != NULL)
		venvd_fail(v, why);
}

static void venvd_open_catalog(struct venvd *v)
{
	char *why = NULL, *note = NULL;
	v->store = store_open(root_state_fd(v->root), v->config.root, &why, &note);
	if (v->store == NULL)
		venvd_fail(v, why);
	if (note != NULL)
		log_warning("%s", note);
	free(note);
	v->index = index_new();
	v->nameless = nameless_new();
	v->replay = replay_new(v);
	v->retention = retention_new(v);
	v->pool = pool_new(v);
	if (reconcile_load(v) != 0)
		venvd_fail(v, "the catalog cannot be read\nhint: venvctl shutdown; then move .venvd/catalog.db aside");
	store_start(v->store);
}

static void venvd_open_workers(struct venvd *v)
{
	char *why = NULL;
	v->jobs = jobs_new(v, root_fd(v->root), root_state_fd(v->root), root_lock_fd(v->root), &why);
	if (v->jobs == NULL)
		venvd_fail(v, why);
}

static void venvd_open_sockets(struct venvd *v)
{
	char *why = NULL;
	v->interfaces = interfaces_new();
	if (v->config.peek)
		return;
	v->server = server_listen(v, root_state_fd(v->root), v->config.socket, &why);
	if (v->server == NULL)
		venvd_fail(v, why);
}

/* Catalog and root agree: serve. */
static void venvd_ready(struct venvd *v)
{
	v->ready = true;
	if (v->stopping)
		return;
	watch_start(v->watch);
	if (v->config.peek) {
		v->server = server_serve(v, PEEK_FD);
		return;
	}
	server_accept(v->server);
	root_started(v->root);
	pool_begin(v->pool);
	log_info("venvd %s serves '%s'", VENVD_VERSION, v->config.root);
	_cleanup_free_ char *ready = xasprintf("ready %d\n", (int)getpid());
	venvd_tell_starter(v, ready);
}

/* --- the end --- */

void venvd_stop_if_idle(struct venvd *v)
{
	struct timeval now = { 0, 0 };
	/* What the closing catalog still tells comes when nothing waits any more. */
	if (v->stopping && venvd_events.turn != NULL && !event_pending(venvd_events.turn, EV_TIMEOUT, NULL))
		event_add(venvd_events.turn, &now);
}

static void venvd_state_removed(enum error_code code, const json_t *result, void *arg)
{
	(void)arg;
	if (code != ERROR_NONE)
		log_error("our own files could not be removed: %s", job_reason(code, result));
}

static void venvd_remove_state(struct venvd *v)
{
	venvd_events.state_removed = true;
	event_free(venvd_events.store);
	venvd_events.store = NULL;
	store_close(v->store);
	v->store = NULL;
	if (job_start(v->jobs, json_pack("{s:s}", "op", "purge-state"), 0, NULL, venvd_state_removed, v) == NULL)
		venvd_stop_if_idle(v);
}

static void venvd_turn_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	struct venvd *v = arg;
	if (!jobs_idle(v->jobs) || !operation_none() || (v->store != NULL && !store_idle(v->store)))
		return;
	if (v->purge && !venvd_events.state_removed) {
		event_del(venvd_events.deadline);       /* a large trash takes its time */
		venvd_remove_state(v);
		return;
	}
	jobs_close(v->jobs);
	if (jobs_gone(v->jobs))
		event_base_loopbreak(v->base);
}

static void venvd_deadline_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	struct venvd *v = arg;
	log_warning("ending with work under way; the next start settles it");
	jobs_kill(v->jobs);
	event_base_loopbreak(v->base);
}

static void venvd_set_deadline(void)
{
	struct timeval tv = { LIMIT_STOP_MS / 1000, LIMIT_STOP_MS % 1000 * 1000 };
	if (!event_pending(venvd_events.deadline, EV_TIMEOUT, NULL))
		event_add(venvd_events.deadline, &tv);
}

void venvd_stop(struct venvd *v)
{
	if (v->stopping)
		return;
	v->stopping = true;
	if (v->server != NULL)
		server_stop_accepting(v->server);
	venvd_set_deadline();
	pool_stop(v->pool);
	operation_cancel_all();
	jobs_cancel_all(v->jobs);
	venvd_stop_if_idle(v);
}

/* --- what the loop itself calls --- */

static void venvd_signal_cb(evutil_socket_t signal_number, short what, void *arg)
{
	(void)what;
	if (signal_number == SIGHUP) {
		log_reopen();
		return;
	}
	venvd_stop(arg);
	venvd_set_deadline();           /* a purge has none, unless somebody insists */
}

static void venvd_store_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	struct venvd *v = arg;
	store_deliver(v->store);
	venvd_stop_if_idle(v);
}

static struct event *venvd_event(struct event *event, bool add)
{
	if (event == NULL || (add && event_add(event, NULL) != 0))
		abort();
	return event;
}

static void venvd_watch(struct venvd *v)
{
	venvd_events.term = venvd_event(evsignal_new(v->base, SIGTERM, venvd_signal_cb, v), true);
	venvd_events.interrupt = venvd_event(evsignal_new(v->base, SIGINT, venvd_signal_cb, v), true);
	venvd_events.hangup = venvd_event(evsignal_new(v->base, SIGHUP, venvd_signal_cb, v), true);
	venvd_events.store = venvd_event(event_new(v->base, store_fd(v->store), EV_READ | EV_PERSIST,
	    venvd_store_cb, v), true);
	venvd_events.turn = venvd_event(evtimer_new(v->base, venvd_turn_cb, v), false);
	venvd_events.deadline = venvd_event(evtimer_new(v->base, venvd_deadline_cb, v), false);
}

/* Signals are blocked first: without its event one would end us while the catalog is being closed. */
static void venvd_unwatch(void)
{
	sigset_t late;
	sigemptyset(&late);
	sigaddset(&late, SIGTERM);
	sigaddset(&late, SIGINT);
	sigaddset(&late, SIGHUP);
	sigprocmask(SIG_BLOCK, &late, NULL);
	struct event *all[] = { venvd_events.term, venvd_events.interrupt, venvd_events.hangup,
		venvd_events.store, venvd_events.turn, venvd_events.deadline };
	for (size_t i = 0; i < ARRAY_LENGTH(all); i++)
		if (all[i] != NULL)
			event_free(all[i]);
	venvd_events.turn = NULL;
}

int main(int argc, char **argv)
{
	struct venvd v = { .started_at = now_us() };
	fd_fill_standard(0);
	frame_memory();
	event_set_mem_functions(xmalloc, xrealloc, free);
	config_read(&v.config, argc, argv);
	log_open(v.config.detached ? v.config.root : NULL);
	if (v.config.peek)
		log_quiet();
	venvd_forget_caller(&v);
	v.base = event_base_new();
	venvd_open_root(&v);            /* made if it is missing; locked until our end */
	venvd_open_catalog(&v);         /* migrated, or refused; its rows are in the index */
	venvd_open_workers(&v);
	venvd_open_sockets(&v);         /* who connects now waits until we are ready */
	venvd_watch(&v);
	v.watch = watch_new(&v);
	v.events = events_new(&v);
	reconcile_start(&v, venvd_ready);

	event_base_dispatch(v.base);    /* the only place where venvd waits */

	venvd_unwatch();
	store_close(v.store);
	server_free(v.server);          /* who waits for our end waits for the catalog's, too */
	jobs_free(v.jobs);
	watch_free(v.watch);
	events_free(v.events);
	pool_free(v.pool);
	retention_free(v.retention);
	replay_free(v.replay);
	nameless_free(v.nameless);
	index_free(v.index);
	interfaces_free(v.interfaces);
	root_close(v.root);
	event_base_free(v.base);
	log_info("venvd has ended");
	config_done(&v.config);
	return 0;
}
