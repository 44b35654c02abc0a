/* SPDX-License-Identifier: MIT */
/* Texts of a moved environment. Done a second time, nothing changes any more; and the old path is nowhere as a whole. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "moved.h"
#include "util.h"

static bool row(void *arg, const char *path, unsigned char digest[SHA256_DIGEST_LENGTH], size_t *size)
{
	(void)arg;
	memset(digest, 7, SHA256_DIGEST_LENGTH);
	*size = strlen(path);
	return path[0] == 'a';
}

static bool record(const struct moved *m, const char *text, size_t len, struct text *out)
{
	return moved_record(m, text, len, row, NULL, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static bool (*const all[])(const struct moved *, const char *, size_t, struct text *) = {
		moved_text, moved_script, moved_activate, moved_cfg, record,
	};
	static const char *const from[] = { "/r/a", "/r'/a" };
	static struct moved *m;
	if (!m)
		m = moved_new(from, 2, "/r/ab", "a", "ab");
	if (len == 0)
		return 0;
	bool (*fn)(const struct moved *, const char *, size_t, struct text *) = all[data[0] % ARRAY_LENGTH(all)];
	struct text once = { 0 }, twice = { 0 };
	fn(m, (const char *)data + 1, len - 1, &once);
	fn(m, once.data ? once.data : "", once.len, &twice);
	assert(once.len == twice.len && (once.len == 0 || memcmp(once.data, twice.data, once.len) == 0));
	text_done(&once);
	text_done(&twice);
	return 0;
}
