/* SPDX-License-Identifier: MIT */
/*
 * See mapped.h. Owns a list of processes and of the files under the directories that each has mapped. Only what can be executed
 * counts as what it runs: a file that was replaced or removed is run as it was until the process ends, whatever pip says.
 *
 * The kernel tells where a file is now, also after its environment was renamed; of one that is gone, where it was.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bounds.h"
#include "finding.h"
#include "mapped.h"
#include "process.h"

struct file {
	char *path;
	bool gone;
};

struct user {
	pid_t pid;
	json_t *command;
	struct file *files;
	size_t count, size;
};

struct mapped {
	struct user *users;
	size_t count, size;
};

static bool lies_in(const char *path, const char *directory)
{
	size_t len = strlen(directory);
	return strncmp(path, directory, len) == 0 && path[len] == '/';
}

static void add_file(struct user *u, const char *path, size_t len, bool gone)
{
	/* A file has several mappings, one after the other. */
	struct file *last = u->count > 0 ? &u->files[u->count - 1] : NULL;
	if (u->count >= LIMIT_MAPPED_FILES || (last && last->gone == gone && strlen(last->path) == len &&
	    strncmp(last->path, path, len) == 0))
		return;
	if (u->count == u->size) {
		u->size = u->size ? u->size * 2 : 8;
		u->files = xreallocarray(u->files, u->size, sizeof(*u->files));
	}
	u->files[u->count++] = (struct file){ xstrndup(path, len), gone };
}

/* "55d0c0a00000-55d0c0a01000 r-xp 00000000 fe:00 123     /the/path (deleted)", see proc_pid_maps(5). */
static void read_line(struct user *u, const char *line, const char *const *directories, size_t count)
{
	static const char deleted[] = " (deleted)";
	const char *modes = strchr(line, ' '), *path = strchr(line, '/');
	if (!modes || !path || strnlen(modes, 4) < 4 || modes[3] != 'x')
		return;
	size_t len = strlen(path), tail = sizeof(deleted) - 1;
	bool gone = len > tail && strcmp(path + len - tail, deleted) == 0;
	for (size_t i = 0; i < count; i++) {
		if (lies_in(path, directories[i])) {
			add_file(u, path, gone ? len - tail : len, gone);
			return;
		}
	}
}

static void read_maps(struct user *u, const struct process *p, const char *const *directories, size_t count)
{
	int fd = openat(p->fd, "maps", O_RDONLY | O_CLOEXEC);
	FILE *maps = fd < 0 ? NULL : fdopen(fd, "r");
	if (!maps) {
		cleanup_fd(&fd);
		return;
	}
	char *line = NULL;
	size_t size = 0, total = 0;
	ssize_t n;
	while (total < LIMIT_MAPS_BYTES && (n = getline(&line, &size, maps)) > 0) {
		total += (size_t)n;
		line[n - 1] = '\0';
		read_line(u, line, directories, count);
	}
	free(line);
	fclose(maps);
}

static void user_done(struct user *u)
{
	for (size_t i = 0; i < u->count; i++)
		free(u->files[i].path);
	free(u->files);
	json_decref(u->command);
}

static void look_at_process(struct mapped *m, struct process *p, const char *const *directories, size_t count)
{
	struct user u = { .pid = p->pid };
	read_maps(&u, p, directories, count);
	if (u.count == 0) {
		user_done(&u);
		return;
	}
	u.command = process_command(p, "?");
	if (m->count == m->size) {
		m->size = m->size ? m->size * 2 : 8;
		m->users = xreallocarray(m->users, m->size, sizeof(*m->users));
	}
	m->users[m->count++] = u;
}

struct mapped *mapped_look(const char *const *directories, size_t count)
{
	struct mapped *m = xcalloc(1, sizeof(*m));
	struct process p = PROCESS_NONE;
	const struct dirent *d;
	DIR *proc = count > 0 ? opendir("/proc") : NULL;
	if (!proc)
		return m;
	while ((d = readdir(proc))) {
		if (d->d_name[0] >= '0' && d->d_name[0] <= '9' && process_open(&p, dirfd(proc), d->d_name))
			look_at_process(m, &p, directories, count);
		process_close(&p);
	}
	closedir(proc);
	return m;
}

void mapped_free(struct mapped *m)
{
	for (size_t i = 0; i < m->count; i++)
		user_done(&m->users[i]);
	free(m->users);
	free(m);
}

json_t *mapped_tell(const struct mapped *m, const char *directory, json_t *findings)
{
	json_t *all = json_array();
	for (size_t i = 0; i < m->count; i++) {
		const struct user *u = &m->users[i];
		const char *first = NULL;
		size_t here = 0, gone = 0;
		for (size_t j = 0; j < u->count; j++) {
			if (!lies_in(u->files[j].path, directory))
				continue;
			here++;
			gone += u->files[j].gone;
			if (u->files[j].gone && !first)
				first = u->files[j].path + strlen(directory) + 1;
		}
		if (here > 0 && json_array_size(all) < LIMIT_IN_USE)
			json_array_append_new(all, json_pack("{s:i,s:O}", "pid", (int)u->pid, "command", u->command));
		if (gone > 0)
			finding_add(findings, FINDING_STALE, false, NULL, "process %d ('%s') runs with %zu of its files that %s replaced or "
			    "removed since, as '%s': start it again", (int)u->pid, json_string_value(u->command), gone,
			    gone == 1 ? "was" : "were", first);
	}
	return all;
}
