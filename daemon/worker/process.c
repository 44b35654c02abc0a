/* SPDX-License-Identifier: MIT */
/* See process.h. /proc changes while it is read: what is gone by the next look has not run. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bounds.h"
#include "failure.h"
#include "process.h"

#define PROCESS_WORDS (64 * 1024)       /* of its arguments or variables that are read */

bool process_open(struct process *p, int proc_fd, const char *name)
{
	struct stat st;
	p->pid = (pid_t)atol(name);
	p->fd = openat(proc_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return p->fd >= 0 && fstat(p->fd, &st) == 0 && st.st_uid == geteuid();
}

void process_close(struct process *p)
{
	cleanup_fd(&p->fd);
	text_done(&p->words);
	text_done(&p->variables);
	*p = PROCESS_NONE;
}

static const struct text *read_words(const struct process *p, const char *name, struct text *text, bool *read_already)
{
	if (*read_already)
		return text;
	*read_already = true;
	_cleanup_fd_ int fd = openat(p->fd, name, O_RDONLY | O_CLOEXEC);
	char buffer[4096];
	ssize_t n = 0;
	while (fd >= 0 && text->len < PROCESS_WORDS && (n = read(fd, buffer, sizeof(buffer))) > 0)
		text_add(text, buffer, (size_t)n);
	return text;
}

const char *process_first_word(struct process *p)
{
	const struct text *words = read_words(p, "cmdline", &p->words, &p->words_read);
	return words->len > 0 ? words->data : "";
}

const char *process_variable(struct process *p, const char *name)
{
	const struct text *all = read_words(p, "environ", &p->variables, &p->variables_read);
	size_t len = strlen(name);
	for (size_t at = 0; at < all->len; at += strlen(all->data + at) + 1)
		if (strncmp(all->data + at, name, len) == 0 && all->data[at + len] == '=')
			return all->data + at + len + 1;
	return NULL;
}

json_t *process_command(struct process *p, const char *otherwise)
{
	process_first_word(p);
	size_t len = p->words.len < LIMIT_COMMAND_BYTES ? p->words.len : LIMIT_COMMAND_BYTES;
	_cleanup_free_ char *command = xcalloc(len + 1, 1);
	for (size_t i = 0; i < len; i++)
		command[i] = p->words.data[i] != '\0' ? p->words.data[i] : ' ';
	while (len > 0 && command[len - 1] == ' ')
		command[--len] = '\0';
	return failure_text(len > 0 ? command : otherwise);
}
