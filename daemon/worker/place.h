/* SPDX-License-Identifier: MIT */
/* Directories by descriptor: who one is, opening below it, moving it without replacing anything. */
#ifndef VENVD_WORKER_PLACE_H
#define VENVD_WORKER_PLACE_H
#include <dirent.h>
#include <jansson.h>
#include <limits.h>
#include <sys/stat.h>
#include "util.h"

/* What tells one directory from every other one. btime 0: unknown, or any. */
struct identity {
	int64_t ino;
	int64_t btime_ns;
};

int place_statx(int dir_fd, const char *name, struct statx *ret);      /* never follows a link */
struct identity place_identity(const struct statx *);
/* Whether dir_fd/name is a directory and the one that is wanted. false with errno ENOENT, ESTALE (it is
 * another) or what the kernel said. */
bool place_is(int dir_fd, const char *name, struct identity want);

/* Below dir_fd: no component is a link or another mount. errno ELOOP, EXDEV, ... */
int place_open(int dir_fd, const char *path, int flags);
int place_make(int dir_fd, const char *path, int flags, mode_t mode);   /* with O_CREAT */
/* The directory (O_PATH) that the path's last component is in; *ret_name is that component, in path. */
int place_parent(int dir_fd, const char *path, const char **ret_name);
int place_unlink(int dir_fd, const char *path);         /* of what is no directory */

/* Where what is open really is, as the kernel says it, cut off at PATH_MAX - 1 bytes. Its length, or -1 and "". */
ssize_t place_real(int fd, char ret[PATH_MAX]);

/* Mode of whatever an O_PATH descriptor refers to. */
int place_chmod(int path_fd, mode_t mode);

/* Renames a directory; EEXIST if the target is there. A directory that may not be written is made
 * writable for the moment of the move. */
int place_move(int from_fd, const char *from, int to_fd, const char *to);

/* The same for one certain directory. Between a look and a rename another one may have taken its name; that
 * one is put back (as `aside`, if its name is taken by then), and errno is ESTALE. */
int place_move_known(int from_fd, const char *from, int to_fd, const char *to, struct identity want,
    const char *aside);

/* The directory that holds what is at path (absolute, not "/"), links followed as the user put them; *ret_base is its
 * name there, in path. */
int place_open_parent(const char *path, const char **ret_base);

/* The directory of the daemon's state, made if it is not there. */
int place_state_dir(const char *name);

/* A fresh name in the stage, of this worker's own: when it is killed, what lies under such names is swept. */
#define PLACE_STAGE_NAME 48
void place_stage_name(char ret[PLACE_STAGE_NAME]);

/* Marks a directory as one that backups leave out (CACHEDIR.TAG), if it is not marked yet. */
void place_mark_cache(int dir_fd);

/* The next entry, or NULL: then *ret is 0 at the end and -1 with errno after an error. */
struct dirent *place_next(DIR *dir, int *ret);

/* Whether name is one component that stays in its directory. */
bool place_component(const char *name);

/* A regular file's content, at most max bytes, never waiting for a FIFO's writer or a device; links are followed from
 * AT_FDCWD alone, and there but as the last component. -1 with
 * errno; EFBIG if there is more, EINVAL if it is no regular file. *ret_st may be NULL. */
int place_read(int dir_fd, const char *name, size_t max, struct text *ret, struct stat *ret_st);
#endif
