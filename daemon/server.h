/* SPDX-License-Identifier: MIT */
/* The sockets: listening, accepting, whose connection it is, limits, frames in and out. */
#ifndef VENVD_SERVER_H
#define VENVD_SERVER_H
#include "venvd.h"

/* Listens on PATH_SOCKET in state_fd and, if not NULL, on `also`. Both are 0600; a stale file is
 * replaced (the caller holds the lock). NULL with *ret_why, owned. */
struct server *server_listen(struct venvd *, int state_fd, const char *also, char **ret_why);
/* Serves the one connection on fd (taken) and stops the daemon when it is closed. */
struct server *server_serve(struct venvd *, int fd);
void server_accept(struct server *);            /* begins to take connections: everything is ready */
void server_stop_accepting(struct server *);    /* and takes the socket files away, if they are ours */
size_t server_connections(const struct server *);
/* Pushes out what can be written now, closes everything, frees. NULL is fine. */
void server_free(struct server *);

/* The process that serves the socket in state_fd, 0 if none answers. For "who holds it". */
int server_holder(int state_fd);
#endif
