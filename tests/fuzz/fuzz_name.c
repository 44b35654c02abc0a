/* SPDX-License-Identifier: MIT */
/* The grammar of names, held against another writing of it. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "bounds.h"
#include "names.h"
#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
	char *name = xstrndup((const char *)data, len);
	size_t n = strlen(name), fit = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
	bool good = n > 0 && n <= LIMIT_NAME_BYTES && strchr(first, name[0]) && fit == n;
	assert(good == (name_rule_broken(name) == NULL));
	free(name);
	return 0;
}
