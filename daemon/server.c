/* SPDX-License-Identifier: MIT */
/*
 * The server: who may connect, how many, how long, and where frames begin and end. Owns the listening
 * sockets and the connections. It hands each whole frame to method_dispatch() and reads no further
 * frame of that connection while the call is unanswered, so replies come in call order.
 *
 * Plain events and evbuffers instead of bufferevents: after a half-close a bufferevent never reports
 * the later close, its read high-water mark spins, and a client that never reads is not held back.
 * Invariants:
 *  - the peer's uid is checked before a byte is read; a refused peer is closed without a word;
 *  - EOF is not "gone": only POLLHUP, or a write error, is; what is left at a half-close is a last frame; then only a
 *    stream that has nothing to say is given up when its client leaves, for all else comes to an end;
 *  - above LIMIT_OUTPUT_HIGH unsent bytes nothing more is read, parsed or streamed, until LIMIT_OUTPUT_LOW; while all
 *    connections together have more than LIMIT_OUTPUT_TOTAL, only who has read everything gets another answer;
 *  - a connection is freed only by its own events (conn_turn_cb, read, write, timer), never inside a call
 *    from a request.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "bounds.h"
#include "log.h"
#include "method.h"
#include "paths.h"
#include "request.h"
#include "reserve.h"
#include "root.h"
#include "server.h"
#include "timer.h"

#define SERVER_LISTENERS 2
#define SERVER_ACCEPTS_TURN 16
#define SERVER_ACCEPT_PAUSE_US 100000   /* out of descriptors, and no connection of ours ended */

struct listener {
	struct server *server;
	int fd;
	struct event *event;
	int directory;          /* where its file lies, */
	char *name;             /* its name there, */
	dev_t dev;              /* and which file it is: only that one is unlinked */
	ino_t ino;
};

struct conn {
	struct server *server;
	int fd;
	pid_t peer_pid;
	struct event *read_event, *write_event, *closed_event, *left_event, *turn_event, *timer_event;
	struct evbuffer *in, *out;
	size_t scanned;         /* this much of `in` holds no NUL */
	struct request *current;
	bool heard;             /* a byte has come */
	bool half_closed;
	bool held_back;         /* output went over the high mark */
	bool in_turn;           /* conn_turn() sees by itself what is left to do */
	bool only;              /* the one connection of a daemon that only looks */
	int64_t since;          /* monotonic: begin of the silence that the timer measures */
	int64_t frame_since;    /* when the incomplete frame in `in` began */
	TAILQ_ENTRY(conn) entry;
};

struct server {
	struct venvd *venvd;
	struct listener listeners[SERVER_LISTENERS];
	size_t listener_count;
	struct event *pause_event;
	bool accepting;
	size_t count;
	size_t unsent;          /* in `out` of all connections */
	TAILQ_HEAD(, conn) conns;
};

static void conn_schedule(struct conn *);

/* --- connections: output --- */

static size_t conn_unsent(const struct conn *c)
{
	return evbuffer_get_length(c->out);
}

static void conn_send(void *arg, const struct text *frames)
{
	struct conn *c = arg;
	if (conn_unsent(c) == 0)
		c->since = monotonic_us();
	if (evbuffer_add(c->out, frames->data, frames->len) != 0)
		abort();
	c->server->unsent += frames->len;
	conn_schedule(c);
}

static void conn_answered(void *arg)
{
	struct conn *c = arg;
	c->current = NULL;
	c->since = monotonic_us();
	conn_schedule(c);
}

static void conn_wake(void *arg)
{
	conn_schedule(arg);
}

static const struct request_sink conn_sink = { conn_send, conn_answered, conn_wake };

/* Whether it has more unsent than may be there when more is added. */
static bool conn_is_over(const struct conn *c)
{
	return conn_unsent(c) > (c->server->unsent > LIMIT_OUTPUT_TOTAL ? 0 : LIMIT_OUTPUT_HIGH);
}

/* False if the peer is gone. */
static bool conn_flush(struct conn *c)
{
	while (conn_unsent(c) > 0) {
		int n = evbuffer_write(c->out, c->fd);
		if (n < 0) {
			if (errno == EAGAIN || errno == EINTR)
				break;
			return false;
		}
		c->server->unsent -= (size_t)n;
		c->since = monotonic_us();
	}
	if (conn_is_over(c))
		c->held_back = true;
	else if (conn_unsent(c) <= LIMIT_OUTPUT_LOW)
		c->held_back = false;
	return true;
}

/* --- connections: life --- */

static void server_resume(struct server *s)
{
	if (!s->accepting)
		return;
	for (size_t i = 0; i < s->listener_count; i++)
		event_add(s->listeners[i].event, NULL);
}

static void conn_free(struct conn *c)
{
	struct server *s = c->server;
	TAILQ_REMOVE(&s->conns, c, entry);
	s->count--;
	event_free(c->read_event);
	event_free(c->write_event);
	event_free(c->closed_event);
	event_free(c->left_event);
	event_free(c->turn_event);
	event_free(c->timer_event);
	s->unsent -= conn_unsent(c);
	evbuffer_free(c->in);
	evbuffer_free(c->out);
	close(c->fd);
	bool only = c->only;
	free(c);
	server_resume(s);
	if (only)
		venvd_stop(s->venvd);
}

static void conn_dispatch(struct conn *c, const char *text, size_t len, bool gone)
{
	struct call call;
	const char *why = call_parse(text, len, &call);
	if (why != NULL) {
		log_info("closing a connection: %s", why);
		evbuffer_drain(c->in, evbuffer_get_length(c->in));
		c->half_closed = true;          /* nothing more is read; it closes when all is sent */
		return;
	}
	if (gone && !call.oneway) {
		call_done(&call);
		return;
	}
	struct request *r = request_new(c->server->venvd, &call, &conn_sink, call.oneway ? NULL : c);
	r->caller_pid = c->peer_pid;
	if (r->conn != NULL)
		c->current = r;
	method_dispatch(r);
}

/* One whole frame out of `in`; false if there is none (or the connection is beyond reading). */
static bool conn_next_frame(struct conn *c, bool gone)
{
	struct evbuffer_ptr start;
	size_t have = evbuffer_get_length(c->in);
	if (have == 0 || evbuffer_ptr_set(c->in, &start, c->scanned, EVBUFFER_PTR_SET) != 0)
		return false;
	struct evbuffer_ptr nul = evbuffer_search(c->in, "", 1, &start);
	size_t len = nul.pos >= 0 ? (size_t)nul.pos : have;
	if (len > LIMIT_FRAME_BYTES) {
		log_info("closing a connection: a call is longer than %d bytes", LIMIT_FRAME_BYTES);
		evbuffer_drain(c->in, have);
		c->half_closed = true;
		return false;
	}
	if (nul.pos < 0 && !c->half_closed) {
		c->scanned = have;
		return false;
	}
	const char *text = (const char *)evbuffer_pullup(c->in, (ev_ssize_t)len);
	_cleanup_free_ char *copy = xstrndup(len > 0 ? text : "", len);
	evbuffer_drain(c->in, nul.pos >= 0 ? len + 1 : len);
	c->scanned = 0;
	c->frame_since = monotonic_us();
	/* What is left at a half-close may be the newline behind a last frame. */
	if (nul.pos < 0 && copy[strspn(copy, " \t\r\n")] == '\0')
		return false;
	conn_dispatch(c, copy, len, gone);
	return true;
}

/* The client closed for good. Calls that wanted no answer are still done; the others are dropped. */
static void conn_gone(struct conn *c)
{
	if (c->current != NULL) {
		struct request *r = c->current;
		c->current = NULL;
		request_orphan(r, !c->half_closed);
	}
	c->half_closed = true;
	while (conn_next_frame(c, true))
		;
	conn_free(c);
}

static void conn_arm_timer(struct conn *c)
{
	const struct config *config = &c->server->venvd->config;
	int64_t limit_ms, from = c->since;
	if (conn_unsent(c) > 0)
		limit_ms = config->value[CONFIG_STALL_MS];
	else if (c->current != NULL || c->only)
		limit_ms = -1;
	else if (!c->heard)
		limit_ms = config->value[CONFIG_FIRST_BYTE_MS];
	else if (evbuffer_get_length(c->in) > 0)
		limit_ms = config->value[CONFIG_FRAME_MS], from = c->frame_since;
	else
		limit_ms = config->value[CONFIG_IDLE_MS];
	if (limit_ms < 0) {
		event_del(c->timer_event);
		return;
	}
	int64_t left = from + limit_ms * 1000 - monotonic_us();
	if (left < 0)
		left = 0;
	struct timeval tv = { .tv_sec = left / 1000000, .tv_usec = left % 1000000 };
	event_add(c->timer_event, &tv);
}

/* Does what can be done now, without waiting: answers, streams, writes; then says what to wait for. */
static void conn_turn(struct conn *c)
{
	c->in_turn = true;
	int64_t until = monotonic_us() + LIMIT_TURN_US;
	for (int frames = 0; !c->held_back && !conn_is_over(c) &&
	    frames < LIMIT_FRAMES_TURN && (frames == 0 || monotonic_us() < until); frames++) {
		if (c->current != NULL) {
			if (c->current->stream != NULL)
				request_stream_turn(c->current);
			break;
		}
		if (!conn_next_frame(c, false))
			break;
	}
	c->in_turn = false;
	if (!conn_flush(c)) {
		conn_gone(c);
		return;
	}
	bool more = !c->held_back && (c->current == NULL ? c->scanned < evbuffer_get_length(c->in)
	    : c->current->stream != NULL);
	if (c->half_closed && c->current == NULL && conn_unsent(c) == 0 && !more) {
		conn_free(c);
		return;
	}
	if (more)
		conn_schedule(c);
	/* Not with another event of this descriptor: it is the one that is told only of what is new. */
	event_del(c->left_event);
	if (conn_unsent(c) > 0)
		event_add(c->write_event, NULL);
	else
		event_del(c->write_event);
	if (!c->half_closed && !c->held_back && evbuffer_get_length(c->in) <= LIMIT_FRAME_BYTES)
		event_add(c->read_event, NULL);
	else
		event_del(c->read_event);
	/* Who has sent more than we take now can still leave, and that cancels the call. */
	if (!c->half_closed && !event_pending(c->read_event, EV_READ, NULL))
		event_add(c->closed_event, NULL);
	else
		event_del(c->closed_event);
	if (c->half_closed && c->current != NULL && c->current->stream_state != NULL && conn_unsent(c) == 0)
		event_add(c->left_event, NULL);
	conn_arm_timer(c);
}

static void conn_schedule(struct conn *c)
{
	struct timeval now = { 0, 0 };
	if (!c->in_turn && !event_pending(c->turn_event, EV_TIMEOUT, NULL))
		event_add(c->turn_event, &now);
}

static void conn_turn_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	conn_turn(arg);
}

static void conn_write_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	conn_turn(arg);
}

static bool conn_hung_up(const struct conn *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };
	return poll(&p, 1, 0) < 0 || (p.revents & (POLLHUP | POLLERR)) != 0;
}

/* Once, or by the edge: a client that only closed its sending side would be reported for ever. */
static void conn_closed_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	if (conn_hung_up(arg))
		conn_gone(arg);
}

static void conn_read_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	struct conn *c = arg;
	size_t had = evbuffer_get_length(c->in);
	int n = evbuffer_read(c->in, fd, (int)(LIMIT_FRAME_BYTES + 1 - had));
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			conn_gone(c);
		return;
	}
	if (n == 0) {
		if (conn_hung_up(c)) {
			conn_gone(c);
			return;
		}
		c->half_closed = true;
		c->scanned = 0;
	} else {
		c->heard = true;
		c->since = monotonic_us();
		if (had == 0)
			c->frame_since = c->since;
	}
	conn_turn(c);
}

static void conn_timer_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	struct conn *c = arg;
	if (conn_unsent(c) > 0)
		log_info("closing a connection: its client does not read");
	conn_gone(c);
}

/* --- accepting --- */

/* The uid is the only thing that decides; the pid could be another's by now. */
static bool server_peer_allowed(int fd, pid_t *ret_pid)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
		return false;
	*ret_pid = peer.pid;
	if (peer.uid == geteuid() || peer.uid == 0)
		return true;
	log_warning("refused a connection of uid %u", (unsigned)peer.uid);
	return false;
}

static struct conn *conn_new(struct server *s, int fd, pid_t peer_pid)
{
	struct conn *c = xcalloc(1, sizeof(*c));
	c->server = s;
	c->fd = fd;
	c->peer_pid = peer_pid;
	c->in = evbuffer_new();
	c->out = evbuffer_new();
	struct event_base *base = s->venvd->base;
	c->read_event = event_new(base, fd, EV_READ | EV_PERSIST, conn_read_cb, c);
	c->write_event = event_new(base, fd, EV_WRITE | EV_PERSIST, conn_write_cb, c);
	c->closed_event = event_new(base, fd, EV_CLOSED, conn_closed_cb, c);
	c->left_event = event_new(base, fd, EV_CLOSED | EV_ET | EV_PERSIST, conn_closed_cb, c);
	c->turn_event = evtimer_new(base, conn_turn_cb, c);
	c->timer_event = evtimer_new(base, conn_timer_cb, c);
	if (c->in == NULL || c->out == NULL || c->read_event == NULL || c->write_event == NULL ||
	    c->closed_event == NULL || c->left_event == NULL || c->turn_event == NULL || c->timer_event == NULL)
		abort();
	c->since = monotonic_us();
	TAILQ_INSERT_TAIL(&s->conns, c, entry);
	s->count++;
	event_add(c->read_event, NULL);
	conn_arm_timer(c);
	return c;
}

static void server_pause_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	server_resume(arg);
}

/* Out of descriptors: the listeners would report the waiting client again and again. */
static void server_pause(struct server *s)
{
	struct timeval tv = { 0, SERVER_ACCEPT_PAUSE_US };
	log_warning("no descriptor for a connection: %s", strerror(errno));
	for (size_t i = 0; i < s->listener_count; i++)
		event_del(s->listeners[i].event);
	event_add(s->pause_event, &tv);
}

static void server_accept_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	struct server *s = ((struct listener *)arg)->server;
	for (int i = 0; i < SERVER_ACCEPTS_TURN; i++) {
		pid_t pid;
		int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (peer < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
				server_pause(s);
			return;
		}
		if (s->count >= (size_t)s->venvd->config.value[CONFIG_CONNECTIONS] ||
		    !server_peer_allowed(peer, &pid))
			close(peer);
		else
			conn_new(s, peer, pid);
	}
}

/* --- listening --- */

/* Binds and connects go through the directory's descriptor, so a path of any length fits sun_path. */
static int server_address(struct sockaddr_un *sa, int directory, const char *name)
{
	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	int n = snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/%s", directory, name);
	if (n < 0 || (size_t)n >= sizeof(sa->sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return 0;
}

static int server_connect(int directory, const char *name)
{
	struct sockaddr_un sa;
	if (server_address(&sa, directory, name) != 0)
		return -1;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 && errno != EAGAIN) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

int server_holder(int state_fd)
{
	_cleanup_fd_ int fd = server_connect(state_fd, PATH_SOCKET);
	struct ucred peer;
	socklen_t len = sizeof(peer);
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
		return 0;
	/* Killed while it started a worker: that one has the socket until it has become the worker's program. */
	_cleanup_fd_ int process = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	struct pollfd p = { .fd = process, .events = POLLIN };
	bool dead = process < 0 ? errno == ESRCH : poll(&p, 1, 0) > 0;
	return dead ? 0 : peer.pid;
}

/* Takes directory. */
static int server_add_listener(struct server *s, int directory, const char *name)
{
	struct listener *l = &s->listeners[s->listener_count];
	*l = (struct listener){ .server = s, .directory = directory, .name = xstrdup(name), .fd = -1 };
	s->listener_count++;
	struct sockaddr_un sa;
	if (server_address(&sa, directory, name) != 0)
		return -1;
	if (unlinkat(directory, name, 0) != 0 && errno != ENOENT)
		return -1;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return -1;
	mode_t before = umask(0177);
	int bound;
	do {    /* even on a full disk there is an inode for it */
		bound = bind(l->fd, (struct sockaddr *)&sa, sizeof(sa));
	} while (bound != 0 && reserve_spend(root_state_fd(s->venvd->root)));
	umask(before);
	struct stat st;
	if (bound != 0 || fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    listen(l->fd, SOMAXCONN) != 0)
		return -1;
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	l->event = event_new(s->venvd->base, l->fd, EV_READ | EV_PERSIST, server_accept_cb, l);
	if (l->event == NULL)
		abort();
	return 0;
}

static struct server *server_new(struct venvd *v)
{
	struct server *s = xcalloc(1, sizeof(*s));
	s->venvd = v;
	TAILQ_INIT(&s->conns);
	s->pause_event = evtimer_new(v->base, server_pause_cb, s);
	if (s->pause_event == NULL)
		abort();
	return s;
}

/* A socket file of somebody who still answers is not stale. Takes nothing; -1 with *ret_why. */
static int server_listen_also(struct server *s, const char *path, char **ret_why)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *directory = slash == path ? xstrdup("/") :
	    xstrndup(path, (size_t)(slash - path));
	if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
		*ret_why = xasprintf("socket directory '%s' cannot be made: %s", directory, strerror(errno));
		return -1;
	}
	int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		*ret_why = xasprintf("socket directory '%s' cannot be opened: %s", directory, strerror(errno));
		return -1;
	}
	struct stat st;
	if (fstatat(fd, slash + 1, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISSOCK(st.st_mode)) {
		*ret_why = xasprintf("socket '%s' is something else: a file of that name is there", path);
		close(fd);
		return -1;
	}
	/* Our own, by another path: whoever gives that one gets it. */
	if (fstatat(fd, slash + 1, &st, 0) == 0 && st.st_dev == s->listeners[0].dev &&
	    st.st_ino == s->listeners[0].ino) {
		close(fd);
		return 0;
	}
	_cleanup_fd_ int other = server_connect(fd, slash + 1);
	if (other >= 0) {
		*ret_why = xasprintf("socket '%s' is served by another process", path);
		close(fd);
		return -1;
	}
	if (server_add_listener(s, fd, slash + 1) != 0) {
		*ret_why = xasprintf("socket '%s' cannot be made: %s", path, strerror(errno));
		return -1;
	}
	return 0;
}

struct server *server_listen(struct venvd *v, int state_fd, const char *also, char **ret_why)
{
	struct server *s = server_new(v);
	if (server_add_listener(s, fcntl(state_fd, F_DUPFD_CLOEXEC, 10), PATH_SOCKET) != 0) {
		*ret_why = xasprintf("socket '%s/" PATH_STATE "/" PATH_SOCKET "' cannot be made: %s",
		    v->config.root, strerror(errno));
		server_free(s);
		return NULL;
	}
	if (also != NULL && server_listen_also(s, also, ret_why) != 0) {
		server_free(s);
		return NULL;
	}
	return s;
}

struct server *server_serve(struct venvd *v, int fd)
{
	struct server *s = server_new(v);
	pid_t pid;
	if (!server_peer_allowed(fd, &pid)) {
		close(fd);
		venvd_stop(v);
		return s;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	conn_new(s, fd, pid)->only = true;
	return s;
}

void server_accept(struct server *s)
{
	s->accepting = true;
	server_resume(s);
}

void server_stop_accepting(struct server *s)
{
	s->accepting = false;
	event_del(s->pause_event);
	for (size_t i = 0; i < s->listener_count; i++) {
		struct listener *l = &s->listeners[i];
		struct stat st;
		if (l->event != NULL)
			event_free(l->event);
		if (l->ino != 0 && fstatat(l->directory, l->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    st.st_dev == l->dev && st.st_ino == l->ino)
			unlinkat(l->directory, l->name, 0);
		if (l->fd >= 0)
			close(l->fd);
		if (l->directory >= 0)
			close(l->directory);
		free(l->name);
	}
	s->listener_count = 0;
}

size_t server_connections(const struct server *s)
{
	return s->count;
}

void server_free(struct server *s)
{
	if (s == NULL)
		return;
	server_stop_accepting(s);
	struct conn *c, *next;
	for (c = TAILQ_FIRST(&s->conns); c != NULL; c = next) {
		next = TAILQ_NEXT(c, entry);
		conn_flush(c);
		if (c->current != NULL)
			request_orphan(c->current, false);
		c->current = NULL;
		c->only = false;
		conn_free(c);
	}
	event_free(s->pause_event);
	free(s);
}
