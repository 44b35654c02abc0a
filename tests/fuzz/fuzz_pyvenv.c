/* SPDX-License-Identifier: MIT */
/* The reader of pyvenv.cfg: anything may stand there, and what comes out is printable UTF-8. */
#include <assert.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pyvenv.h"

static void check(const char *text)
{
	json_t *string = text ? json_string(text) : NULL;
	assert(!text || string);
	json_decref(string);
	for (; text && *text; text++)
		assert((unsigned char)*text >= 0x20 && *text != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct pyvenv cfg;
	pyvenv_parse((const char *)data, len, &cfg);
	check(cfg.home);
	check(cfg.version);
	check(cfg.implementation);
	check(cfg.prompt);
	check(cfg.executable);
	pyvenv_done(&cfg);
	return 0;
}
