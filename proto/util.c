/* SPDX-License-Identifier: MIT */
/*
 * The cellar: memory that is there or the program is not, growing texts, clocks, whole reads and
 * writes, identifiers, and the two ways in which untrusted bytes become harmless (as JSON, as words
 * on a terminal). Owns nothing. Keeps no state. Knows nothing of environments, sockets or Varlink.
 *
 * Invariant: whatever text_add_json() appends is a valid JSON string, and whatever text_printable()
 * returns is valid UTF-8 that cannot move a cursor, whatever bytes went in.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "util.h"

_Noreturn void out_of_memory(void)
{
	static const char words[] = "out of memory\n";

	/* stdio may want memory itself. */
	if (write(STDERR_FILENO, words, sizeof(words) - 1) < 0)
		abort();
	abort();
}

void *xmalloc(size_t size)
{
	void *p = malloc(size ? size : 1);

	if (!p)
		out_of_memory();
	return p;
}

void *xcalloc(size_t count, size_t size)
{
	void *p = calloc(count ? count : 1, size ? size : 1);

	if (!p)
		out_of_memory();
	return p;
}

void *xreallocarray(void *p, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		out_of_memory();
	p = realloc(p, bytes ? bytes : 1);
	if (!p)
		out_of_memory();
	return p;
}

char *xrealpath(const char *path)
{
	char *real = realpath(path, NULL);

	/* To go on without it would be to say that there is no link. */
	if (!real && errno == ENOMEM)
		out_of_memory();
	return real;
}

void *xrealloc(void *p, size_t size)
{
	return xreallocarray(p, size, 1);
}

char *xstrdup(const char *s)
{
	if (!s)
		return NULL;
	size_t len = strlen(s) + 1;
	return memcpy(xmalloc(len), s, len);
}

char *xstrndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *copy = xmalloc(len + 1);

	memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

char *xasprintf(const char *fmt, ...)
{
	char *s;
	va_list ap;

	va_start(ap, fmt);
	s = xvasprintf(fmt, ap);
	va_end(ap);
	return s;
}

char *xvasprintf(const char *fmt, va_list ap)
{
	char *s;

	if (vasprintf(&s, fmt, ap) < 0)
		out_of_memory();
	return s;
}

static void text_reserve(struct text *t, size_t more)
{
	size_t need;

	if (__builtin_add_overflow(t->len, more, &need) || __builtin_add_overflow(need, 1, &need))
		out_of_memory();
	if (t->data && need <= t->size)
		return;
	size_t size = t->size < 64 ? 64 : t->size;
	while (size < need)
		size = size > SIZE_MAX / 2 ? need : size * 2;
	t->data = xreallocarray(t->data, size, 1);
	t->size = size;
}

void text_add(struct text *t, const void *data, size_t len)
{
	text_reserve(t, len);
	if (len)
		memcpy(t->data + t->len, data, len);
	t->len += len;
	t->data[t->len] = '\0';
}

void text_adds(struct text *t, const char *s)
{
	text_add(t, s, strlen(s));
}

void text_addf(struct text *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		out_of_memory();
	text_reserve(t, (size_t)n);
	va_start(ap, fmt);
	vsnprintf(t->data + t->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	t->len += (size_t)n;
}

/* The length of the UTF-8 sequence at s (NUL-terminated) and its code point; 0 if there is none:
 * cut short, overlong, a surrogate or beyond U+10FFFF. */
static size_t utf8_sequence(const unsigned char *s, uint32_t *ret_point)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 :
	    s[0] < 0xf5 ? 4 : 0;

	if (len < 2) {
		*ret_point = s[0];
		return len;
	}
	uint32_t point = s[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (s[i] & 0x3f);
	}
	if (point < smallest[len] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
		return 0;
	*ret_point = point;
	return len;
}

/* What stands in a JSON string as it is: ASCII but for controls, '"' and '\'. A table, for most of
 * what the daemon writes goes through here byte by byte. */
static const bool json_plain[256] = {
	[' '] = true, [0x21] = true, [0x23 ... 0x5b] = true, [0x5d ... 0x7f] = true,
};

static void json_escape(struct text *t, unsigned char c)
{
	switch (c) {
	case '"': text_add(t, "\\\"", 2); break;
	case '\\': text_add(t, "\\\\", 2); break;
	case '\b': text_add(t, "\\b", 2); break;
	case '\f': text_add(t, "\\f", 2); break;
	case '\n': text_add(t, "\\n", 2); break;
	case '\r': text_add(t, "\\r", 2); break;
	case '\t': text_add(t, "\\t", 2); break;
	default: text_addf(t, "\\u%04x", c);
	}
}

void text_add_json(struct text *t, const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	text_add(t, "\"", 1);
	while (*p) {
		const unsigned char *run = p;
		while (json_plain[*p])
			p++;
		text_add(t, run, (size_t)(p - run));
		if (!*p)
			break;
		uint32_t point;
		size_t len = utf8_sequence(p, &point);
		if (len > 1)
			text_add(t, p, len);
		else if (len == 1)
			json_escape(t, *p);
		else
			text_add(t, "\xef\xbf\xbd", 3);
		p += len ? len : 1;
	}
	text_add(t, "\"", 1);
}

void text_clear(struct text *t)
{
	t->len = 0;
	if (t->data)
		t->data[0] = '\0';
}

void text_done(struct text *t)
{
	free(t->data);
	*t = (struct text){ 0 };
}

static int64_t clock_us(clockid_t id)
{
	struct timespec ts;

	if (clock_gettime(id, &ts) < 0)
		abort();
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t now_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

int64_t monotonic_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

int fd_read_all(int fd, size_t max, struct text *ret)
{
	char chunk[16 * 1024];
	_cleanup_text_ struct text all = { 0 };

	text_add(&all, "", 0);
	for (;;) {
		ssize_t n = pread(fd, chunk, sizeof(chunk), (off_t)all.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		if ((size_t)n > max - all.len) {
			errno = EFBIG;
			return -1;
		}
		text_add(&all, chunk, (size_t)n);
	}
	text_add(ret, all.data, all.len);
	return 0;
}

int fd_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

void fd_fill_standard(int flags)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", (fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) | flags) < 0)
			return;
}

void id_new(char ret[17])
{
	unsigned char bytes[8];

	/* So few bytes come whole, and no signal interrupts them. */
	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		abort();
	for (size_t i = 0; i < sizeof(bytes); i++) {
		ret[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
		ret[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
	}
	ret[16] = '\0';
}

/* What would act on a terminal instead of being shown: controls, and what reorders the text around
 * it. */
static bool acts_on_terminal(uint32_t point)
{
	return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x61c ||
	    point == 0x200e || point == 0x200f || (point >= 0x202a && point <= 0x202e) ||
	    (point >= 0x2066 && point <= 0x2069);
}

static char *printable(const char *s, bool lines)
{
	struct text t = { 0 };
	const unsigned char *p = (const unsigned char *)s;

	text_add(&t, "", 0);
	while (*p) {
		uint32_t point = 0;
		size_t len = utf8_sequence(p, &point);
		if (len && (!acts_on_terminal(point) || (lines && point == '\n')))
			text_add(&t, p, len);
		else
			for (size_t i = 0; i < (len ? len : 1); i++)
				text_addf(&t, "\\x%02x", p[i]);
		p += len ? len : 1;
	}
	return t.data;
}

char *text_printable(const char *s)
{
	return printable(s, false);
}

char *text_printable_lines(const char *s)
{
	return printable(s, true);
}

char *text_printable_json(const char *json)
{
	struct text t = { 0 };
	const unsigned char *p = (const unsigned char *)json;

	text_add(&t, "", 0);
	while (*p) {
		const unsigned char *run = p;
		while (*p == '\n' || (*p >= ' ' && *p < 0x7f))
			p++;
		text_add(&t, run, (size_t)(p - run));
		if (!*p)
			break;
		uint32_t point = 0;
		size_t len = utf8_sequence(p, &point);
		if (!len)
			text_add(&t, "\xef\xbf\xbd", 3);
		else if (acts_on_terminal(point))
			text_addf(&t, "\\u%04x", (unsigned)point);
		else
			text_add(&t, p, len);
		p += len ? len : 1;
	}
	return t.data;
}
