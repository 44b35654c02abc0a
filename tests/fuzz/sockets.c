/* SPDX-License-Identifier: MIT */
/*
 * See sockets.h. These functions take the place of the C library's, for libevent too; what is asked about a descriptor that is
 * not one of ours goes to the kernel. It is modelled on net/unix/af_unix.c: a peer's end is EPIPE for who writes, and for who
 * reads what is left, then ECONNRESET if something of his was not read, then the end; a half-close is RDHUP, two
 * are HUP; writable is who has not filled a quarter. epoll is level-triggered, as libevent uses it, but for whom it watches by
 * the edge (EPOLLET): each event is told once until it has been over, or is watched anew.
 *
 * Invariants: nobody waits (that would be for ever); no descriptor is closed twice, or used after it was; none is closed that
 * epoll still reports because another one is of the same socket; none is left open behind an input.
 *
 * Kept from input to input: the memory that buffers have got. Where epoll begins to look changes from one call to the next.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "sockets.h"
#include "util.h"

#define FIRST 512               /* the kernel gives none as high as this here */
#define DESCRIPTORS 256
#define SOCKETS 256
#define ROOM (160 * 1024)       /* bytes on their way in one direction */

struct sock {
	unsigned refs;          /* descriptors */
	struct sock *peer;      /* NULL: it has gone */
	bool blocking, shut_in, shut_out;
	int error;
	bool empty_file;        /* it is one */
	size_t start, len, size;
	char *data;             /* what has come and was not read */
};

static struct sock sockets[SOCKETS];
static struct {
	struct sock *sock;      /* NULL: closed */
	uint32_t watched;       /* by epoll; 0: not */
	uint32_t told;          /* by the edge */
	epoll_data_t data;
} descriptors[DESCRIPTORS];
static unsigned descriptor_end; /* none is open from here on */
static unsigned looks;

void sockets_begin(void)
{
	for (unsigned i = 0; i < DESCRIPTORS; i++)
		assert(descriptors[i].sock == NULL);
	descriptor_end = looks = 0;
}

static bool is_ours(int fd)
{
	return fd >= FIRST && fd < FIRST + DESCRIPTORS;
}

static struct sock *sock_of(int fd)
{
	assert(descriptors[fd - FIRST].sock != NULL);
	return descriptors[fd - FIRST].sock;
}

static struct sock *sock_new(void)
{
	struct sock *s = sockets;
	while (s->refs > 0)
		assert(++s < sockets + SOCKETS);
	*s = (struct sock){ .data = s->data, .size = s->size };
	return s;
}

static int descriptor_new(struct sock *s)
{
	unsigned i = 0;
	while (descriptors[i].sock != NULL)
		assert(++i < DESCRIPTORS);
	descriptors[i].sock = s;
	descriptors[i].watched = 0;
	if (i >= descriptor_end)
		descriptor_end = i + 1;
	s->refs++;
	return FIRST + (int)i;
}

static void sock_unref(struct sock *s)
{
	if (--s->refs > 0 || s->peer == NULL)
		return;
	if (s->len > 0)
		s->peer->error = ECONNRESET;
	s->peer->shut_in = s->peer->shut_out = true;
	s->peer->peer = NULL;
}

/* -1 with errno; no error is told twice. */
static int sock_error(struct sock *s)
{
	errno = s->error;
	s->error = 0;
	return errno != 0 ? -1 : 0;
}

static size_t sock_write(struct sock *to, const void *data, size_t len)
{
	if (to->size == 0) {
		to->size = ROOM;
		to->data = xreallocarray(NULL, ROOM, 1);
	}
	if (len > ROOM - to->len)
		len = ROOM - to->len;
	if (to->start + to->len + len > ROOM) {
		memmove(to->data, to->data + to->start, to->len);
		to->start = 0;
	}
	memcpy(to->data + to->start + to->len, data, len);
	to->len += len;
	return len;
}

static size_t sock_read(struct sock *s, void *data, size_t len)
{
	if (len > s->len)
		len = s->len;
	if (len > 0)
		memcpy(data, s->data + s->start, len);
	s->start = len == s->len ? 0 : s->start + len;
	s->len -= len;
	return len;
}

static uint32_t sock_events(const struct sock *s)
{
	return (s->len > 0 || s->shut_in ? EPOLLIN | EPOLLRDNORM : 0u) | (s->shut_in ? EPOLLRDHUP : 0u) |
	    (s->shut_in && s->shut_out ? EPOLLHUP : 0u) | (s->error != 0 ? EPOLLERR : 0u) |
	    (s->peer == NULL || s->peer->len <= ROOM / 4 ? EPOLLOUT | EPOLLWRNORM : 0u);
}

/* --- in place of the C library's --- */

int socketpair(int domain, int type, int protocol, int pair[2])
{
	assert(domain == AF_UNIX && (type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) == SOCK_STREAM && protocol == 0);
	struct sock *s = sock_new();
	pair[0] = descriptor_new(s);
	struct sock *other = sock_new();
	pair[1] = descriptor_new(other);
	s->peer = other;
	other->peer = s;
	s->blocking = other->blocking = (type & SOCK_NONBLOCK) == 0;
	return 0;
}

/* What children a process has: none. Nothing else is opened here. */
int open(const char *path, int flags, ...)
{
	if (strncmp(path, "/proc/self/task/", 16) == 0) {
		struct sock *s = sock_new();
		s->empty_file = true;
		return descriptor_new(s);
	}
	va_list ap;
	va_start(ap, flags);
	mode_t mode = (flags & O_CREAT) != 0 ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t pread(int fd, void *data, size_t len, off_t at)
{
	if (!is_ours(fd))
		return syscall(SYS_pread64, fd, data, len, at);
	assert(sock_of(fd)->empty_file);
	return 0;
}

int close(int fd)
{
	if (!is_ours(fd))
		return (int)syscall(SYS_close, fd);
	struct sock *s = sock_of(fd);
	assert(descriptors[fd - FIRST].watched == 0 || s->refs == 1);
	descriptors[fd - FIRST].sock = NULL;
	sock_unref(s);
	return 0;
}

int fcntl(int fd, int command, ...)
{
	va_list ap;
	va_start(ap, command);
	long arg = va_arg(ap, long);
	va_end(ap);
	if (!is_ours(fd))
		return (int)syscall(SYS_fcntl, fd, command, arg);
	struct sock *s = sock_of(fd);
	if (command == F_DUPFD_CLOEXEC)
		return descriptor_new(s);
	if (command == F_SETFL)
		s->blocking = (arg & O_NONBLOCK) == 0;
	else
		assert(command == F_GETFL || command == F_SETFD || command == F_GETFD);
	return command != F_GETFL ? 0 : s->blocking ? O_RDWR : O_RDWR | O_NONBLOCK;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
	if (!is_ours(fd))
		return syscall(SYS_writev, fd, parts, count);
	struct sock *s = sock_of(fd);
	size_t written = 0, wanted = 0;
	if (sock_error(s) != 0)
		return -1;
	if (s->shut_out || s->peer == NULL || s->peer->shut_in) {
		errno = EPIPE;
		return -1;
	}
	for (int i = 0; i < count; i++) {
		wanted += parts[i].iov_len;
		written += sock_write(s->peer, parts[i].iov_base, parts[i].iov_len);
	}
	if (written > 0 || wanted == 0)
		return (ssize_t)written;
	assert(!s->blocking);
	errno = EAGAIN;
	return -1;
}

ssize_t readv(int fd, const struct iovec *parts, int count)
{
	if (!is_ours(fd))
		return syscall(SYS_readv, fd, parts, count);
	struct sock *s = sock_of(fd);
	size_t taken = 0;
	if (s->len == 0) {
		if (sock_error(s) != 0)
			return -1;
		if (s->shut_in)
			return 0;
		assert(!s->blocking);
		errno = EAGAIN;
		return -1;
	}
	for (int i = 0; i < count; i++)
		taken += sock_read(s, parts[i].iov_base, parts[i].iov_len);
	return (ssize_t)taken;
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
	const struct iovec all = { (void *)data, len };
	assert(is_ours(fd) && (flags & ~(MSG_NOSIGNAL | MSG_DONTWAIT)) == 0);
	bool blocking = sock_of(fd)->blocking;
	sock_of(fd)->blocking = blocking && (flags & MSG_DONTWAIT) == 0;
	ssize_t n = writev(fd, &all, 1);
	sock_of(fd)->blocking = blocking;
	return n;
}

ssize_t recv(int fd, void *data, size_t len, int flags)
{
	const struct iovec all = { data, len };
	assert(is_ours(fd) && (flags & ~MSG_DONTWAIT) == 0);
	bool blocking = sock_of(fd)->blocking;
	sock_of(fd)->blocking = blocking && (flags & MSG_DONTWAIT) == 0;
	ssize_t n = readv(fd, &all, 1);
	sock_of(fd)->blocking = blocking;
	return n;
}

int shutdown(int fd, int how)
{
	assert(is_ours(fd) && how == SHUT_WR);
	struct sock *s = sock_of(fd);
	s->shut_out = true;
	if (s->peer != NULL)
		s->peer->shut_in = true;
	return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	va_start(ap, request);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	if (!is_ours(fd))
		return (int)syscall(SYS_ioctl, fd, request, arg);
	assert(request == FIONREAD);
	*(int *)arg = (int)sock_of(fd)->len;
	return 0;
}

int getsockopt(int fd, int level, int name, void *ret, socklen_t *len)
{
	struct ucred *peer = ret;
	assert(is_ours(fd) && sock_of(fd) != NULL && level == SOL_SOCKET && name == SO_PEERCRED && *len == sizeof(*peer));
	*peer = (struct ucred){ 4711, geteuid(), getegid() };
	return 0;
}

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
	const struct pollfd *volatile asked = fds;      /* gcc has been told that poll() only writes there */
	assert(count == 1 && timeout == 0 && is_ours(asked->fd));
	fds->revents = (short)(sock_events(sock_of(asked->fd)) & ((uint32_t)asked->events | POLLERR | POLLHUP));
	return fds->revents != 0;
}

int epoll_create1(int flags)
{
	(void)flags;
	return (int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC);   /* a number that libevent may call its own */
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	(void)epoll;
	assert(is_ours(fd));
	errno = 0;
	if (descriptors[fd - FIRST].sock == NULL)
		errno = EBADF;
	else if (operation == EPOLL_CTL_ADD && descriptors[fd - FIRST].watched != 0)
		errno = EEXIST;
	else if (operation != EPOLL_CTL_ADD && descriptors[fd - FIRST].watched == 0)
		errno = ENOENT;
	if (errno != 0)
		return -1;
	descriptors[fd - FIRST].watched = operation == EPOLL_CTL_DEL ? 0 : event->events | EPOLLERR | EPOLLHUP;
	descriptors[fd - FIRST].told = 0;
	if (operation != EPOLL_CTL_DEL)
		descriptors[fd - FIRST].data = event->data;
	return 0;
}

int epoll_wait(int epoll, struct epoll_event *ret, int max, int timeout)
{
	int found = 0;
	(void)epoll;
	assert(timeout == 0);
	looks++;
	for (unsigned k = 0; k < descriptor_end && found < max; k++) {
		unsigned i = (k + looks) % descriptor_end;
		uint32_t events = descriptors[i].sock != NULL && descriptors[i].watched != 0 ?
		    sock_events(descriptors[i].sock) & descriptors[i].watched : 0;
		bool edge = (descriptors[i].watched & EPOLLET) == 0 || (events & ~descriptors[i].told) != 0;
		descriptors[i].told = events;
		if (events != 0 && edge)
			ret[found++] = (struct epoll_event){ events, descriptors[i].data };
	}
	return found;
}
