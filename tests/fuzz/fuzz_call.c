/* SPDX-License-Identifier: MIT */
/*
 * What a client can send, from bytes to a checked call, under libFuzzer: frames are cut, each is parsed as
 * a call, its parameters are held against the interface, and they are answered. The first byte says in
 * pieces of which size the rest arrives. Invariants: frames do not depend on the pieces; a text that is taken is within
 * the limits; a reply holds exactly one NUL, at its end.
 */
#include <assert.h>
#include <string.h>

#include "bounds.h"
#include "frame.h"
#include "idl.h"
#include "message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct idl *fuzz_idl;

static void
fuzz_reply(const json_t *parameters)
{
	_cleanup_text_ struct text out = { 0 };
	reply_add(&out, parameters, false);
	assert(out.len > 0 && strlen(out.data) == out.len - 1);
}

/* The name of what does not fit comes from the client, and goes back to it. */
static void
fuzz_unfit(const char *unfit)
{
	json_t *parameters = json_pack("{s:s}", "parameter", unfit);
	assert(parameters != NULL);
	fuzz_reply(parameters);
	json_decref(parameters);
}

static void
fuzz_frame(const char *frame, size_t len)
{
	struct call call;
	if (call_parse(frame, len, &call) != NULL)
		return;
	assert(len <= LIMIT_FRAME_BYTES && message_scan(frame, len) == NULL);
	const char *dot = strrchr(call.method, '.');
	const struct idl_method *method = dot != NULL ? idl_method(fuzz_idl, dot + 1) : NULL;
	if (method != NULL) {
		_cleanup_free_ char *unfit = idl_check_call(fuzz_idl, method, call.parameters);
		if (unfit != NULL)
			fuzz_unfit(unfit);
	}
	fuzz_reply(call.parameters);
	call_done(&call);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (fuzz_idl == NULL) {
		_cleanup_free_ char *why = NULL;
		fuzz_idl = idl_parse(idl_text_io_venvd, &why);
		assert(fuzz_idl != NULL);
	}
	if (size == 0)
		return 0;
	size_t piece = data[0] > 0 ? data[0] : size;
	struct frame_reader reader;
	frame_reader_init(&reader, LIMIT_FRAME_BYTES);
	for (size_t at = 1; at < size; at += piece) {
		frame_feed(&reader, data + at, size - at < piece ? size - at : piece);
		size_t len;
		for (const char *frame; (frame = frame_next(&reader, &len)) != NULL;)
			fuzz_frame(frame, len);
	}
	frame_reader_done(&reader);
	return 0;
}
