/* SPDX-License-Identifier: MIT */
/* Recreate: not built yet. */
#include "method.h"

void method_recreate(struct venvd *v, struct request *r)
{
	(void)v;
	request_error(r, ERROR_UNSUPPORTED, json_pack("{s:s}", "reason", "not built yet"));
}
