/* SPDX-License-Identifier: MIT */
/*
 * The workers. Owns the worker processes, their sockets and the orders that wait for one.
 *
 * A worker is over when both have come, in either order: EOF on its socket and its exit status.
 * One that is told to end gets EOF (it then kills and reaps its own child); one that does not end
 * within JOB_GRACE_US is killed with its process group. We are a subreaper: what a worker that died
 * leaves behind comes to us and is killed, so nobody is left writing under the root.
 *
 * Short orders can be repeated. When the resident worker dies they go to the next one, at most
 * LIMIT_WORKER_RESTARTS times. Claims cannot: they have told us an inode that only that worker knew.
 *
 * Neither can long orders, but for some that bring what can be brought again and tell nothing on the way. What one
 * that was killed has left in the stage is swept.
 *
 * Two queues of long orders: what somebody waits for goes first, and what is done in the background never takes
 * the last free place, so that whoever comes next does not wait behind it.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "bounds.h"
#include "frame.h"
#include "job.h"
#include "log.h"
#include "message.h"
#include "orders.h"
#include "paths.h"
#include "spawn.h"
#include "timer.h"

#define JOB_GRACE_US 1000000
#define JOB_REFUSED "as much work is waiting as this daemon takes"

static const struct timeval at_once;

/* One order, long or short. */
struct job {
	struct jobs *jobs;
	int64_t id;
	json_t *order;
	int64_t deadline_ms;
	job_frame_fn *frame;
	job_done_fn *done;
	void *arg;
	int attempts;
	bool claim;
	bool repeats;                   /* a long one, that another worker can be given */
	bool background;
	bool reserved, told;            /* its worker has said "reserved", and has had our word */
	struct worker *worker;          /* NULL while it waits */
	enum error_code end;            /* why we ended it, ERROR_NONE if we did not */
	json_t *end_parameters;
	struct event *timer;
	TAILQ_ENTRY(job) entry;
};
TAILQ_HEAD(job_list, job);

struct worker {
	struct jobs *jobs;
	pid_t pid;
	bool resident;
	bool background;                /* its order was, when it began */
	struct bufferevent *socket;     /* NULL after EOF */
	bool exited;
	bool failed;                    /* killed, or as good as */
	bool lies;                      /* it has said what cannot be: it is killed, and nothing of it is heard any more */
	bool sweeps;                    /* after another one: nobody sweeps after it */
	struct event *grace;
	struct job_list orders;         /* under way; a long worker has one */
	TAILQ_ENTRY(worker) entry;
};

struct jobs {
	struct venvd *venvd;
	struct spawn spawn;
	int64_t last_id;
	struct job_list waiting, later; /* long orders; those in the background */
	size_t waiting_count, later_count, running_count, short_count;
	size_t background_count;        /* of those that run */
	struct worker *resident;
	bool closing;
	struct event *sigchld;
	TAILQ_HEAD(, worker) workers;
};

static void job_run_next(struct jobs *);
static void job_queue(struct job *, bool background);
static void worker_unref(struct worker *);
static void worker_end(struct worker *);

/* --- one order --- */

static void job_free(struct job *j)
{
	if (j->timer != NULL)
		event_free(j->timer);
	json_decref(j->order);
	json_decref(j->end_parameters);
	free(j);
}

static void job_free_all(struct job_list *list)
{
	struct job *j;
	while ((j = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, j, entry);
		job_free(j);
	}
}

/* The job leaves its worker and its caller hears the outcome. */
static void job_finish(struct job *j, enum error_code code, const json_t *result)
{
	struct jobs *jobs = j->jobs;
	if (j->worker != NULL)
		TAILQ_REMOVE(&j->worker->orders, j, entry);
	if (j->end != ERROR_NONE) {
		code = j->end;
		result = j->end_parameters;
	}
	j->done(code, result, j->arg);
	job_free(j);
	venvd_stop_if_idle(jobs->venvd);
}

static void job_fail(struct job *j, const char *reason)
{
	json_t *parameters = json_pack("{s:s}", "reason", reason);
	job_finish(j, ERROR_FAILED, parameters);
	json_decref(parameters);
}

static void worker_write(struct worker *w, const json_t *frame)
{
	_cleanup_text_ struct text text = { 0 };
	frame_add(&text, frame);
	if (w->socket != NULL)
		bufferevent_write(w->socket, text.data, text.len);
}

/* Who gave the order counts on it: at most one "reserved", and after that no success before our word. */
static bool job_expects(struct job *j, const char *kind, bool success)
{
	bool reserves = kind != NULL && strcmp(kind, "reserved") == 0;
	if ((reserves && j->reserved) || (success && j->reserved && !j->told))
		return false;
	j->reserved |= reserves;
	return true;
}

static void worker_disown(struct worker *w, const char *what)
{
	log_error("worker %d sent %s and is killed", (int)w->pid, what);
	w->lies = true;
	if (!w->exited)
		kill(-w->pid, SIGKILL);
}

static void job_take_frame(struct worker *w, const json_t *frame)
{
	if (json_is_true(json_object_get(frame, "syncFailed"))) {
		/* What was written may be lost though the kernel calls it clean: only a new look can tell.
		 * That holds whether or not somebody still waits for the order: the error is told once. */
		log_error("a sync of the root failed; venvd ends here, and the next start settles it");
		abort();
	}
	struct job *j;
	TAILQ_FOREACH(j, &w->orders, entry)
		if (j->id == json_integer_value(json_object_get(frame, "id")))
			break;
	if (j == NULL || j->end != ERROR_NONE)
		return;
	bool done = json_is_true(json_object_get(frame, "done"));
	const char *error = json_string_value(json_object_get(frame, "error"));
	const char *kind = done ? NULL : json_string_value(json_object_get(frame, "frame"));
	if (!job_expects(j, kind, done && error == NULL)) {
		worker_disown(w, "what it may not say yet");
		return;
	}
	if (!done) {
		if (j->frame != NULL && kind != NULL)
			j->frame(kind, frame, j->arg);
		return;
	}
	bool is_short = w->resident;
	w->jobs->short_count -= is_short;
	if (error != NULL)
		job_finish(j, error_from_name(error), json_object_get(frame, "parameters"));
	else
		job_finish(j, ERROR_NONE, frame);
	if (!is_short)
		worker_end(w);          /* its one order is done */
}

/* --- one worker process --- */

static void worker_grace_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	struct worker *w = arg;
	log_warning("worker %d does not end and is killed", (int)w->pid);
	kill(-w->pid, SIGKILL);
}

static void worker_end(struct worker *w)
{
	struct timeval tv = { .tv_sec = JOB_GRACE_US / 1000000, .tv_usec = JOB_GRACE_US % 1000000 };
	if (w->socket != NULL)
		shutdown(bufferevent_getfd(w->socket), SHUT_WR);
	if (!event_pending(w->grace, EV_TIMEOUT, NULL))
		event_add(w->grace, &tv);
}

static void worker_read_cb(struct bufferevent *socket, void *arg)
{
	struct worker *w = arg;
	struct evbuffer *in = bufferevent_get_input(socket);
	size_t len;
	char *line;
	while (!w->lies && (line = evbuffer_readln(in, &len, EVBUFFER_EOL_NUL)) != NULL) {
		json_t *frame = message_is_deeper(line, len, LIMIT_WORKER_DEPTH) ? NULL : json_loadb(line, len, 0, NULL);
		if (frame != NULL)
			job_take_frame(w, frame);
		else
			log_error("worker %d sent what is no frame", (int)w->pid);
		json_decref(frame);
		free(line);
	}
	if (!w->lies && evbuffer_get_length(in) > LIMIT_WORKER_FRAME)
		worker_disown(w, "too long a frame");
	if (w->lies)
		evbuffer_drain(in, evbuffer_get_length(in));
}

static void worker_event_cb(struct bufferevent *socket, short what, void *arg)
{
	struct worker *w = arg;
	if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) == 0)
		return;
	worker_read_cb(socket, w);
	bufferevent_free(socket);
	w->socket = NULL;
	if (!w->exited)
		worker_end(w);
	worker_unref(w);
}

/* NULL, with the reason in the log, if no process could be had. */
static struct worker *worker_new(struct jobs *jobs, bool resident)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
		log_error("no socket for a worker: %s", strerror(errno));
		return NULL;
	}
	int theirs = spawn_high_fd(pair[1]);
	close(pair[1]);
	if (theirs >= 0)
		fcntl(theirs, F_SETFL, fcntl(theirs, F_GETFL) & ~O_NONBLOCK);
	struct worker *w = xcalloc(1, sizeof(*w));
	w->jobs = jobs;
	w->resident = resident;
	int error = theirs < 0 ? errno : spawn_worker(&jobs->spawn, theirs, resident, &w->pid);
	cleanup_fd(&theirs);
	if (error != 0) {
		log_error("no worker could be started: %s", strerror(error));
		close(pair[0]);
		free(w);
		return NULL;
	}
	TAILQ_INIT(&w->orders);
	w->socket = bufferevent_socket_new(jobs->venvd->base, pair[0], BEV_OPT_CLOSE_ON_FREE);
	w->grace = evtimer_new(jobs->venvd->base, worker_grace_cb, w);
	if (w->socket == NULL || w->grace == NULL)
		abort();
	bufferevent_setcb(w->socket, worker_read_cb, NULL, worker_event_cb, w);
	bufferevent_enable(w->socket, EV_READ | EV_WRITE);
	TAILQ_INSERT_TAIL(&jobs->workers, w, entry);
	return w;
}

/* The orders of a resident worker that died go to the next one, in their order. */
static void worker_give_up_short(struct worker *w)
{
	struct jobs *jobs = w->jobs;
	struct job *j, *next;
	for (j = TAILQ_FIRST(&w->orders); j != NULL; j = next) {
		next = TAILQ_NEXT(j, entry);
		if (j->claim || j->attempts >= LIMIT_WORKER_RESTARTS) {
			jobs->short_count--;
			job_fail(j, j->claim ? "its worker ended unexpectedly" : "workers died over this order");
		}
	}
	if (TAILQ_EMPTY(&w->orders))
		return;
	if (jobs->resident == NULL)
		jobs->resident = worker_new(jobs, true);
	struct worker *other = jobs->resident;
	while ((j = TAILQ_FIRST(&w->orders)) != NULL) {
		TAILQ_REMOVE(&w->orders, j, entry);
		j->worker = other;
		if (other == NULL) {
			jobs->short_count--;
			job_fail(j, "no worker could be started");
			continue;
		}
		TAILQ_INSERT_TAIL(&other->orders, j, entry);
		j->attempts++;
		worker_write(other, j->order);
	}
}

/* Whatever a dead worker left behind is our child now, and nobody else's. Not where we are the first process of a container:
 * there we are everybody's next parent, and what a worker leaves has its guard (worker/child.c). */
static void worker_kill_orphans(struct jobs *jobs)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	_cleanup_fd_ int fd = getpid() == 1 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_text_ struct text children = { 0 };
	if (fd < 0 || fd_read_all(fd, 65536, &children) != 0 || children.len == 0)
		return;
	char *end;
	for (char *p = children.data;; p = end) {
		pid_t pid = (pid_t)strtol(p, &end, 10);
		if (end == p)
			return;
		struct worker *w;
		TAILQ_FOREACH(w, &jobs->workers, entry)
			if (w->pid == pid && !w->exited)
				break;
		if (w == NULL)
			kill(pid, SIGKILL);
	}
}

static void job_swept(enum error_code code, const json_t *result, void *arg)
{
	(void)arg;
	if (code != ERROR_NONE && code != ERROR_CANCELLED)
		log_warning("the stage could not be swept: %s", job_reason(code, result));
}

/* The order of a long worker that has died, and what that one has left. */
static void worker_give_up_long(struct worker *w)
{
	struct jobs *jobs = w->jobs;
	struct job *j = TAILQ_FIRST(&w->orders);
	bool again = j != NULL && j->repeats && j->end == ERROR_NONE && !jobs->closing &&
	    ++j->attempts < LIMIT_WORKER_RESTARTS;
	if (again) {
		TAILQ_REMOVE(&w->orders, j, entry);
		j->worker = NULL;
		j->reserved = j->told = false;
		event_free(j->timer);
		j->timer = NULL;
		job_queue(j, j->background);
	} else if (j != NULL) {
		job_fail(j, "its worker ended unexpectedly");
	}
	if (w->failed && !w->sweeps && !jobs->closing)
		job_start_background(jobs, json_pack("{s:s,s:s,s:[],s:o}", "op", "purge", "where", "stage", "entries",
		    "prefix", json_sprintf(PATH_STAGE_WORKER, (int)w->pid)), 0, NULL, job_swept, NULL);
}

/* Called for each of the two ends; the second one settles what is left and frees the worker. */
static void worker_unref(struct worker *w)
{
	struct jobs *jobs = w->jobs;
	if (!w->exited || w->socket != NULL)
		return;
	TAILQ_REMOVE(&jobs->workers, w, entry);
	if (w->resident) {
		if (jobs->resident == w)
			jobs->resident = NULL;
		worker_give_up_short(w);
	} else {
		jobs->running_count--;
		jobs->background_count -= w->background;
		worker_give_up_long(w);
	}
	event_free(w->grace);
	free(w);
	job_run_next(jobs);
	venvd_stop_if_idle(jobs->venvd);
}

static void worker_exited(struct jobs *jobs, pid_t pid, int status)
{
	struct worker *w;
	TAILQ_FOREACH(w, &jobs->workers, entry)
		if (w->pid == pid && !w->exited)
			break;
	if (w == NULL) {
		worker_kill_orphans(jobs);      /* an orphan ended; its children are ours now */
		return;
	}
	w->exited = true;
	event_del(w->grace);
	w->failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
	if (w->failed) {
		log_warning("worker %d %s %d", (int)pid, WIFSIGNALED(status) ? "was killed by signal" :
		    "exited with", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		worker_kill_orphans(jobs);
	}
	worker_unref(w);
}

static void job_sigchld_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		worker_exited(arg, pid, status);
}

/* --- long orders --- */

static void job_deadline_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	struct job *j = arg;
	_cleanup_free_ char *reason = xasprintf("it took longer than %.10g seconds",
	    (double)j->deadline_ms / 1000);
	j->end = ERROR_FAILED;
	j->end_parameters = json_pack("{s:s}", "reason", reason);
	if (j->worker == j->jobs->resident)
		j->jobs->resident = NULL;       /* what comes now goes to the next one */
	worker_end(j->worker);
}

static void job_arm(struct job *j)
{
	struct timeval tv = { .tv_sec = j->deadline_ms / 1000, .tv_usec = j->deadline_ms % 1000 * 1000 };
	j->timer = evtimer_new(j->jobs->venvd->base, job_deadline_cb, j);
	if (j->deadline_ms > 0)
		event_add(j->timer, &tv);
}

static void job_run(struct job *j)
{
	struct jobs *jobs = j->jobs;
	struct worker *w = worker_new(jobs, false);
	if (w == NULL) {
		job_fail(j, "no worker could be started");
		return;
	}
	jobs->running_count++;
	jobs->background_count += w->background = j->background;
	j->worker = w;
	TAILQ_INSERT_TAIL(&w->orders, j, entry);
	w->sweeps = json_object_get(j->order, "prefix") != NULL;
	worker_write(w, j->order);
	if (!j->repeats) {
		json_decref(j->order);
		j->order = NULL;
	}
	job_arm(j);
}

static size_t jobs_max(const struct jobs *jobs)
{
	return (size_t)jobs->venvd->config.value[CONFIG_JOBS_RUNNING];
}

static bool job_may_run(const struct jobs *jobs, bool background)
{
	size_t max = jobs_max(jobs);
	return jobs->running_count < max && (!background || max < 2 || jobs->background_count < max - 1);
}

/* Out of its queue. */
static void job_unqueue(struct job *j)
{
	TAILQ_REMOVE(j->background ? &j->jobs->later : &j->jobs->waiting, j, entry);
	*(j->background ? &j->jobs->later_count : &j->jobs->waiting_count) -= 1;
}

static void job_queue(struct job *j, bool background)
{
	j->background = background;
	TAILQ_INSERT_TAIL(background ? &j->jobs->later : &j->jobs->waiting, j, entry);
	*(background ? &j->jobs->later_count : &j->jobs->waiting_count) += 1;
}

static void job_run_queue(struct jobs *jobs, struct job_list *list, size_t *count, bool background)
{
	struct job *j;
	while ((j = TAILQ_FIRST(list)) != NULL && job_may_run(jobs, background)) {
		TAILQ_REMOVE(list, j, entry);
		--*count;
		job_run(j);
	}
}

static void job_run_next(struct jobs *jobs)
{
	job_run_queue(jobs, &jobs->waiting, &jobs->waiting_count, false);
	if (TAILQ_EMPTY(&jobs->waiting))
		job_run_queue(jobs, &jobs->later, &jobs->later_count, true);
}

static struct job *job_new(struct jobs *jobs, json_t *order, job_done_fn *done, void *arg)
{
	struct job *j = xcalloc(1, sizeof(*j));
	j->jobs = jobs;
	j->id = ++jobs->last_id;
	j->order = order;
	j->done = done;
	j->arg = arg;
	json_object_set_new(order, "id", json_integer(j->id));
	return j;
}

/* A job is never run inside job_start(): its caller has not kept the pointer yet. */
static void job_start_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	job_run_next(arg);
}

static bool job_repeats(const json_t *order)
{
	static const char *const repeatable[] = { "image", "fill", "resolve", "packages", "inspect", "purge",
		"settle" };
	const char *op = json_string_value(json_object_get(order, "op"));
	for (size_t i = 0; i < ARRAY_LENGTH(repeatable); i++)
		if (strcmp(op, repeatable[i]) == 0)
			return true;
	return false;
}

static struct job *job_start_long(struct jobs *jobs, json_t *order, int64_t deadline_ms,
    job_frame_fn *frame, job_done_fn *done, void *arg, bool background, bool bounded)
{
	size_t queued = background ? jobs->later_count : jobs->waiting_count;
	/* Until we are ready all orders are our own: what the start needs is never refused. */
	bounded = bounded && jobs->venvd->ready;
	if (jobs->closing ||
	    (bounded && queued >= (size_t)jobs->venvd->config.value[CONFIG_JOBS_QUEUED])) {
		json_decref(order);
		return NULL;
	}
	struct job *j = job_new(jobs, order, done, arg);
	if (!jobs->venvd->ready)
		json_object_set_new(order, "starting", json_true());
	j->deadline_ms = deadline_ms;
	j->frame = frame;
	j->repeats = job_repeats(order);
	job_queue(j, background);
	event_base_once(jobs->venvd->base, -1, EV_TIMEOUT, job_start_cb, jobs, &at_once);
	return j;
}

struct job *job_start(struct jobs *jobs, json_t *order, int64_t deadline_ms, job_frame_fn *frame, job_done_fn *done, void *arg)
{
	return job_start_long(jobs, order, deadline_ms, frame, done, arg, false, true);
}

struct job *job_continue(struct jobs *jobs, json_t *order, int64_t deadline_ms, job_frame_fn *frame,
    job_done_fn *done, void *arg)
{
	return job_start_long(jobs, order, deadline_ms, frame, done, arg, false, false);
}

struct job *job_start_background(struct jobs *jobs, json_t *order, int64_t deadline_ms,
    job_frame_fn *frame, job_done_fn *done, void *arg)
{
	return job_start_long(jobs, order, deadline_ms, frame, done, arg, true, true);
}

struct job *job_continue_background(struct jobs *jobs, json_t *order, int64_t deadline_ms,
    job_frame_fn *frame, job_done_fn *done, void *arg)
{
	return job_start_long(jobs, order, deadline_ms, frame, done, arg, true, false);
}

void job_hurry(struct job *j)
{
	if (!j->background || j->worker != NULL || j->end != ERROR_NONE)
		return;
	job_unqueue(j);
	job_queue(j, false);
	event_base_once(j->jobs->venvd->base, -1, EV_TIMEOUT, job_start_cb, j->jobs, &at_once);
}

void job_send(struct job *j, json_t *frame)
{
	json_object_set_new(frame, "id", json_integer(j->id));
	j->told = true;
	if (j->worker != NULL)
		worker_write(j->worker, frame);
	json_decref(frame);
}

/* The end of a job that no worker has yet, outside of whoever cancelled it. */
static void job_dropped_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	job_finish(arg, ERROR_CANCELLED, NULL);
}

/* It ends so, but only when its caller has kept the pointer. */
static void job_drop(struct job *j, enum error_code end, json_t *parameters)
{
	j->end = end;
	j->end_parameters = parameters;
	j->timer = evtimer_new(j->jobs->venvd->base, job_dropped_cb, j);
	event_add(j->timer, &at_once);
}

void job_cancel(struct job *j)
{
	if (j->end != ERROR_NONE)
		return;
	if (j->worker == NULL) {
		job_unqueue(j);
		job_drop(j, ERROR_CANCELLED, NULL);
	} else {
		j->end = ERROR_CANCELLED;
		worker_end(j->worker);
	}
}

void jobs_cancel_all(struct jobs *jobs)
{
	struct job *j;
	while ((j = TAILQ_FIRST(&jobs->waiting)) != NULL || (j = TAILQ_FIRST(&jobs->later)) != NULL)
		job_cancel(j);
	struct worker *w;
	TAILQ_FOREACH(w, &jobs->workers, entry)
		if (!w->resident && (j = TAILQ_FIRST(&w->orders)) != NULL)
			job_cancel(j);
}

/* --- short orders --- */

static bool jobs_have_resident(struct jobs *jobs)
{
	if (jobs->resident == NULL || jobs->resident->socket == NULL || jobs->resident->exited)
		jobs->resident = worker_new(jobs, true);
	return jobs->resident != NULL;
}

static struct job *job_start_short(struct jobs *jobs, json_t *order, job_done_fn *done, void *arg, bool bounded)
{
	if (!jobs_have_resident(jobs) || (bounded && jobs->short_count >= LIMIT_SHORT_ORDERS)) {
		json_decref(order);
		return NULL;
	}
	struct job *j = job_new(jobs, order, done, arg);
	j->worker = jobs->resident;
	j->attempts = 1;
	jobs->short_count++;
	TAILQ_INSERT_TAIL(&jobs->resident->orders, j, entry);
	worker_write(jobs->resident, j->order);
	return j;
}

bool jobs_short(struct jobs *jobs, json_t *order, job_done_fn *done, void *arg)
{
	return job_start_short(jobs, order, done, arg, true) != NULL;
}

bool jobs_short_continue(struct jobs *jobs, json_t *order, job_done_fn *done, void *arg)
{
	return job_start_short(jobs, order, done, arg, false) != NULL;
}

struct job *jobs_claim(struct jobs *jobs, json_t *order, int64_t deadline_ms, job_frame_fn *frame,
    job_done_fn *done, void *arg)
{
	struct job *j;
	if (!jobs_have_resident(jobs)) {
		j = job_new(jobs, order, done, arg);
		job_drop(j, ERROR_FAILED, json_pack("{s:s}", "reason", "no worker could be started"));
		return j;
	}
	j = job_start_short(jobs, order, done, arg, true);
	if (j == NULL)
		return NULL;
	j->claim = true;
	j->frame = frame;
	j->deadline_ms = deadline_ms;
	job_arm(j);
	json_decref(j->order);          /* it is never sent again */
	j->order = NULL;
	return j;
}

/* --- the room --- */

struct jobs *jobs_new(struct venvd *v, int root_fd, int state_fd, int lock_fd, char **ret_why)
{
	struct jobs *jobs = xcalloc(1, sizeof(*jobs));
	if (spawn_init(&jobs->spawn, root_fd, state_fd, lock_fd, ret_why) < 0) {
		free(jobs);
		return NULL;
	}
	jobs->venvd = v;
	TAILQ_INIT(&jobs->waiting);
	TAILQ_INIT(&jobs->later);
	TAILQ_INIT(&jobs->workers);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	jobs->sigchld = evsignal_new(v->base, SIGCHLD, job_sigchld_cb, jobs);
	if (jobs->sigchld == NULL)
		abort();
	event_add(jobs->sigchld, NULL);
	return jobs;
}

const char *job_reason(enum error_code code, const json_t *result)
{
	const char *reason = json_string_value(json_object_get(result, "reason"));
	return reason != NULL ? reason : error_name(code);
}

json_t *job_refused(const char *name)
{
	return json_pack("{s:s*,s:s}", "name", name, "reason", JOB_REFUSED);
}

size_t jobs_running(const struct jobs *jobs)
{
	return jobs->running_count;
}

size_t jobs_queued(const struct jobs *jobs)
{
	return jobs->waiting_count + jobs->later_count;
}

size_t jobs_places(const struct jobs *jobs)
{
	size_t taken = jobs->running_count + jobs->waiting_count;
	return taken < jobs_max(jobs) ? jobs_max(jobs) - taken : 0;
}

bool jobs_idle(const struct jobs *jobs)
{
	return jobs->running_count == 0 && jobs_queued(jobs) == 0 && jobs->short_count == 0;
}

void jobs_close(struct jobs *jobs)
{
	if (jobs->closing)
		return;
	jobs->closing = true;
	struct worker *w;
	TAILQ_FOREACH(w, &jobs->workers, entry)
		worker_end(w);
}

bool jobs_gone(const struct jobs *jobs)
{
	return TAILQ_EMPTY(&jobs->workers);
}

void jobs_kill(struct jobs *jobs)
{
	struct worker *w;
	jobs->closing = true;
	TAILQ_FOREACH(w, &jobs->workers, entry)
		if (!w->exited)
			kill(-w->pid, SIGKILL);
	worker_kill_orphans(jobs);
}

void jobs_free(struct jobs *jobs)
{
	if (jobs == NULL)
		return;
	struct worker *w;
	while ((w = TAILQ_FIRST(&jobs->workers)) != NULL) {
		TAILQ_REMOVE(&jobs->workers, w, entry);
		job_free_all(&w->orders);
		if (w->socket != NULL)
			bufferevent_free(w->socket);
		event_free(w->grace);
		free(w);
	}
	job_free_all(&jobs->waiting);
	job_free_all(&jobs->later);
	event_free(jobs->sigchld);
	spawn_done(&jobs->spawn);
	free(jobs);
}
