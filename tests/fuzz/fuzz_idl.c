/* SPDX-License-Identifier: MIT */
/*
 * The reader of interface descriptions, under libFuzzer. Descriptions come with the build, so what counts
 * is that a bad one is refused with a reason, whatever it is.
 */
#include <assert.h>
#include <string.h>

#include "idl.h"
#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = xstrndup((const char *)data, size);
	_cleanup_free_ char *why = NULL;
	struct idl *idl = idl_parse(text, &why);
	assert((idl == NULL) == (why != NULL));
	for (size_t i = 0; idl != NULL && i < idl_method_count(idl); i++)
		assert(idl_method(idl, idl_method_name(idl_method_at(idl, i))) != NULL);
	idl_free(idl);
	return 0;
}
