/* SPDX-License-Identifier: MIT */
/* What the rooms under test need of other rooms, and what the tests share. */
#include <ftw.h>
#include <stdio.h>
#include "unit.h"
#include "log.h"

unsigned log_errors;
char log_last[512];

void log_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(log_last, sizeof(log_last), fmt, ap);
	va_end(ap);
	log_errors++;
}

char *unit_directory(void)
{
	const char *tmp = getenv("TMPDIR");
	char *path = xasprintf("%s/venvd-unit-XXXXXX", tmp ? tmp : "/tmp");

	if (!mkdtemp(path))
		abort();
	return path;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

void unit_directory_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

uint32_t unit_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 33);
}
