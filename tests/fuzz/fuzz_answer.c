/* SPDX-License-Identifier: MIT */
/*
 * A worker's bytes: what the daemon does with whatever one sends (house.h; job.c reads it, and the verb that gave the order
 * makes something of it). The first byte chooses what is asked of the daemon, or that it starts after a crash. The
 * rest is what workers say: at each order, and each word "go", the one that was told sends what comes up to the next 0xff. In
 * it 0xfd stands for the order's number; a 0xfe in front has the worker die behind it. Who has nothing left to say is
 * silent until nothing else happens any more; then it dies, and who is given an order after that either fails or dies of it
 * at once, as the first byte says.
 *
 * The one answer that ends the daemon by intention, "syncFailed", is left out.
 *
 * Invariants: those of house_close(); what a client hears is JSON whatever the worker said, and it hears the end of
 * its call, once.
 */
#include <assert.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "house.h"
#include "pool.h"
#include "reconcile.h"
#include "server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CALL(method, parameters) "{\"method\":\"io.venvd." method "\",\"more\":true,\"parameters\":" parameters "}"
static const char *const calls[] = {
	NULL,                           /* the daemon starts */
	"",                             /* the pool begins */
	CALL("Create", "{\"name\":\"n\"}"),
	CALL("Create", "{\"name\":\"n\",\"requestId\":\"r\",\"upgradeDeps\":true}"),
	CALL("Create", "{\"name\":\"n\",\"path\":\"/x/n\"}"),
	CALL("Create", "{\"name\":\"a\",\"clear\":true}"),
	CALL("Recreate", "{\"name\":\"a\",\"requestId\":\"r\"}"),
	CALL("Recreate", "{\"name\":\"else\"}"),
	CALL("Recreate", "{\"name\":\"missing\"}"),
	CALL("Delete", "{\"name\":\"a\",\"requestId\":\"r\"}"),
	CALL("Delete", "{\"name\":\"else\"}"),
	CALL("Delete", "{\"name\":\"a\",\"now\":true}"),
	CALL("Delete", "{\"name\":\"old\",\"now\":true}"),
	CALL("Restore", "{\"name\":\"old\"}"),
	CALL("Restore", "{\"name\":\"old\",\"as\":\"z\",\"requestId\":\"r\"}"),
	CALL("Rename", "{\"name\":\"a\",\"to\":\"z\",\"requestId\":\"r\"}"),
	CALL("Clone", "{\"name\":\"a\",\"to\":\"z\"}"),
	CALL("Adopt", "{\"name\":\"z\",\"path\":\"/x/z\"}"),
	CALL("EmptyTrash", "{}"),
	CALL("ListInterpreters", "{}"),
	CALL("FindInterpreter", "{}"),
	CALL("AddInterpreter", "{\"path\":\"/x/python\"}"),
	CALL("Diagnose", "{}"),
	CALL("Repair", "{\"name\":\"broken\",\"requestId\":\"r\"}"),
};

static const uint8_t *words, *words_end;
static int client = -1;
static enum { SILENT, FAILS, DIES } rest;       /* what is done by who has nothing to say */
static unsigned orders_given;
static unsigned ends;           /* of calls, that the client has heard */
static struct frame_reader heard;

/* The only key that the daemon ends at, however it is spelt: no letter needs an escape. */
static bool is_fatal(const uint8_t *data, size_t size)
{
	static const char escape[] = "\\u00", key[] = "syncFailed";
	for (const uint8_t *p = data; (p = memmem(p, size - (size_t)(p - data), escape, 4)) != NULL; p += 4)
		if (p + 4 < data + size && p[4] >= '4' && p[4] <= '7')
			return true;
	return memmem(data, size, key, strlen(key)) != NULL;
}

/* Behind the next key of a number called so, which is no text as other ids are; NULL. */
static const char *next_id(const char *text)
{
	static const char key[] = "\"id\":";
	const char *at = text;
	while ((at = strstr(at, key)) != NULL) {
		at += sizeof(key) - 1;
		if (strchr("0123456789", *at) != NULL)
			return at;
	}
	return NULL;
}

/* The number of an order. To read all of each order takes a sixth of the time: it is done for every eighth, and where a worker
 * has said what has a number of its own in it. */
static long long order_id(const char *text, size_t len)
{
	const char *at = next_id(text);
	assert(at != NULL);
	bool alone = next_id(at) == NULL;
	long long id = strtoll(at, NULL, 10);
	if (orders_given++ % 8 != 0 && alone)
		return id;
	json_t *order = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const json_t *number = json_object_get(order, "id");
	assert(json_is_integer(number) && (!alone || id == json_integer_value(number)));
	id = json_integer_value(number);
	json_decref(order);
	return id;
}

void house_order(struct house_worker *w, const char *text, size_t len)
{
	if (words == words_end && rest != FAILS) {
		if (rest == DIES)
			house_end(w, SIGKILL);
		return;
	}
	long long id = order_id(text, len);
	if (words == words_end) {
		_cleanup_free_ char *failed = xasprintf("{\"id\":%lld,\"done\":true,\"error\":\"io.venvd.Failed\","
		    "\"parameters\":{\"reason\":\"no\"}}", id);
		house_say(w, failed, strlen(failed) + 1);
		return;
	}
	const uint8_t *end = words < words_end ? memchr(words, 0xff, (size_t)(words_end - words)) : NULL;
	if (end == NULL)
		end = words_end;
	bool dies = words < end && *words == 0xfe;
	_cleanup_text_ struct text said = { 0 };
	for (words += dies; words < end; words++) {
		if (*words == 0xfd)
			text_addf(&said, "%lld", id);
		else
			text_add(&said, words, 1);
	}
	words += words < words_end;
	if (said.len > 0)
		house_say(w, said.data, said.len);
	if (dies)
		house_end(w, 11);
}

bool house_beside(void)
{
	static char buffer[64 * 1024];
	ssize_t n = client < 0 ? -1 : recv(client, buffer, sizeof(buffer), MSG_DONTWAIT);
	if (n <= 0)
		return false;
	frame_feed(&heard, buffer, (size_t)n);
	size_t len;
	for (const char *frame; (frame = frame_next(&heard, &len)) != NULL;) {
		json_t *reply = json_loadb(frame, len, JSON_REJECT_DUPLICATES, NULL);
		assert(json_is_object(reply) && json_is_object(json_object_get(reply, "parameters")));
		ends += !json_is_true(json_object_get(reply, "continues"));
		json_decref(reply);
	}
	return true;
}

static void ready(struct venvd *v)
{
	v->ready = true;
	pool_begin(v->pool);
}

static struct server *ask(const char *call)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		abort();
	client = pair[0];
	if (send(client, call, strlen(call) + 1, MSG_NOSIGNAL) < 0)
		abort();
	return server_serve(&house, pair[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0 || is_fatal(data, size))
		return -1;
	const char *call = calls[data[0] % ARRAY_LENGTH(calls)];
	struct server *server = NULL;
	words = data + 1;
	words_end = data + size;
	rest = SILENT;
	orders_given = 0;
	ends = 0;
	client = -1;
	frame_reader_init(&heard, 1 << 24);
	house_open(call == NULL);
	if (call == NULL) {
		if (reconcile_load(&house) != 0)
			abort();
		reconcile_start(&house, ready);
	} else if (*call == '\0') {
		pool_begin(house.pool);
	} else {
		server = ask(call);
	}
	house_settle();
	rest = data[0] / ARRAY_LENGTH(calls) % 2 == 0 ? FAILS : DIES;
	house_end_under_way();
	assert(server == NULL || ends == 1);
	assert(house.ready || house.stopping);
	house.stopping = true;                  /* the connection is not the daemon's last one */
	server_free(server);
	house.stopping = false;
	house_close();
	if (client >= 0)
		close(client);
	frame_reader_done(&heard);
	return 0;
}
