/* SPDX-License-Identifier: MIT */
/*
 * The cellar: what every room of all three programs uses. Out of memory ends the program (every input
 * is bounded and the catalog survives it), so nobody checks an x-function's result. The libraries ask the
 * same functions: an answer of theirs that is not there is never for want of memory.
 */
#ifndef VENVD_UTIL_H
#define VENVD_UTIL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

/* A word on stderr, which is the log, and abort(). */
_Noreturn void out_of_memory(void);

/* Each aborts when memory is gone; all results are owned by the caller, freed with free(). */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
void *xreallocarray(void *p, size_t count, size_t size);
char *xstrdup(const char *s);              /* NULL gives NULL */
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);
char *xvasprintf(const char *fmt, va_list) PRINTF_LIKE(1, 0);
char *xrealpath(const char *path);         /* NULL with errno for any other reason */

static inline void cleanup_free(void *p) { free(*(void **)p); }
static inline void cleanup_fd(int *fd) { if (*fd >= 0) close(*fd); }
#define _cleanup_free_ __attribute__((cleanup(cleanup_free)))
#define _cleanup_fd_ __attribute__((cleanup(cleanup_fd)))

/* A growing text, always NUL-terminated once something was added. */
struct text {
	char *data;
	size_t len;
	size_t size;
};
#define _cleanup_text_ __attribute__((cleanup(text_done)))
void text_add(struct text *, const void *data, size_t len);
void text_adds(struct text *, const char *s);
void text_addf(struct text *, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Adds s as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void text_add_json(struct text *, const char *s);
void text_clear(struct text *);            /* empties, keeps the memory */
void text_done(struct text *);             /* frees the memory, leaves an empty text */

int64_t now_us(void);                      /* wall clock, microseconds since the epoch */
int64_t monotonic_us(void);

/* Reads at most max bytes of an open file from its start; -1 with errno, EFBIG if there is more. */
int fd_read_all(int fd, size_t max, struct text *ret);
/* Writes everything or fails with errno. */
int fd_write_all(int fd, const void *data, size_t len);

/* What is closed of the three standard descriptors becomes one that takes and gives nothing, with flags. Else the next file
 * or socket would be in its place, and get what is written to it. */
void fd_fill_standard(int flags);

/* A new random identifier: 16 lower-case hexadecimal digits and a NUL. */
void id_new(char ret[17]);

/* Terminal-safe copy: C0, C1, DEL, bidi controls and bad UTF-8 as \xNN; owned. (logs, tables) */
char *text_printable(const char *s);
/* The same, but for ends of lines. */
char *text_printable_lines(const char *s);
/* The same of a JSON text, which then says the same: as \uNNNN; owned. Of bad UTF-8 each byte is U+FFFD. */
char *text_printable_json(const char *json);
#endif
