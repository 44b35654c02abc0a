/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include "unit.h"
#include "frame.h"

static void whole_and_several(void **state)
{
	struct frame_reader r;
	size_t len = 99;

	(void)state;
	frame_reader_init(&r, 10);
	assert_null(frame_next(&r, &len));
	assert_int_equal(errno, 0);
	frame_feed(&r, "one\0\0two\0th", 11);
	assert_string_equal(frame_next(&r, &len), "one");
	assert_int_equal(len, 3);
	assert_string_equal(frame_next(&r, &len), "");
	assert_int_equal(len, 0);
	assert_string_equal(frame_next(&r, &len), "two");
	assert_null(frame_next(&r, &len));
	assert_int_equal(errno, 0);
	frame_feed(&r, "ree\0", 4);
	assert_string_equal(frame_next(&r, &len), "three");
	assert_null(frame_next(&r, &len));
	frame_reader_done(&r);
}

/* The same stream in pieces of every size gives the same frames. */
static void any_pieces(void **state)
{
	_cleanup_text_ struct text stream = { 0 };

	(void)state;
	for (int i = 0; i < 50; i++) {
		text_addf(&stream, "%d:%.*s", i, i % 23, "abcdefghijklmnopqrstuvwxyz");
		text_add(&stream, "", 1);
	}
	for (size_t piece = 1; piece < stream.len; piece++) {
		struct frame_reader r;
		_cleanup_text_ struct text again = { 0 };
		frame_reader_init(&r, 64);
		for (size_t at = 0; at < stream.len; at += piece) {
			size_t len, n = stream.len - at < piece ? stream.len - at : piece;
			const char *frame;
			frame_feed(&r, stream.data + at, n);
			while ((frame = frame_next(&r, &len))) {
				assert_int_equal(strlen(frame), len);
				text_add(&again, frame, len + 1);
			}
			assert_int_equal(errno, 0);
		}
		assert_int_equal(again.len, stream.len);
		assert_memory_equal(again.data, stream.data, stream.len);
		frame_reader_done(&r);
	}
}

static void longest(void **state)
{
	struct frame_reader r;
	size_t len;

	(void)state;
	frame_reader_init(&r, 5);
	frame_feed(&r, "12345", 5);
	assert_null(frame_next(&r, &len));
	assert_int_equal(errno, 0);
	frame_feed(&r, "", 1);
	assert_string_equal(frame_next(&r, &len), "12345");
	frame_feed(&r, "123456", 6);
	assert_null(frame_next(&r, &len));
	assert_int_equal(errno, EMSGSIZE);
	assert_null(frame_next(&r, &len));
	assert_int_equal(errno, EMSGSIZE);
	frame_reader_done(&r);

	frame_reader_init(&r, 5);
	frame_feed(&r, "ok\0" "123456\0", 10);
	assert_string_equal(frame_next(&r, &len), "ok");
	assert_null(frame_next(&r, &len));
	assert_int_equal(errno, EMSGSIZE);
	frame_reader_done(&r);
}

static void memory_is_given_back(void **state)
{
	struct frame_reader r;
	size_t len, big = 8 * 1024 * 1024;
	_cleanup_free_ char *data = xcalloc(big, 1);

	(void)state;
	memset(data, 'x', big - 1);
	frame_reader_init(&r, big);
	frame_feed(&r, data, big);
	assert_non_null(frame_next(&r, &len));
	assert_int_equal(len, big - 1);
	frame_feed(&r, "y", 1);
	assert_true(r.in.size < 1024 * 1024);
	frame_reader_done(&r);
}

static void sends(void **state)
{
	int pair[2];
	char got[256];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	json_t *value = json_pack("{s:i, s:[n, b], s:s}", "b", 1, "a", 1, "c", "\xc3\xa4");
	assert_int_equal(frame_send(pair[0], value), 0);
	ssize_t n = read(pair[1], got, sizeof(got));
	const char *expected = "{\"b\":1,\"a\":[null,true],\"c\":\"\xc3\xa4\"}";
	assert_int_equal(n, strlen(expected) + 1);
	assert_string_equal(got, expected);
	close(pair[1]);
	/* MSG_NOSIGNAL: or this process would be gone. */
	assert_int_equal(frame_send(pair[0], value), -1);
	assert_int_equal(errno, EPIPE);
	close(pair[0]);
	json_decref(value);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_and_several),
		cmocka_unit_test(any_pieces),
		cmocka_unit_test(longest),
		cmocka_unit_test(memory_is_given_back),
		cmocka_unit_test(sends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
