/* SPDX-License-Identifier: MIT */
/*
 * A client's bytes, from the socket to the answer, through the whole daemon (house.h): server, requests, methods, operations,
 * jobs, pool, jansson and libevent's buffers. Workers answer each order with one of the answers that orders.h knows,
 * chosen by a byte of the input; one that was told "reserved" waits for its "go".
 *
 * Bytes 0 to 2: in pieces of which size the rest arrives; what workers answer; what else happens (FLAG_*).
 *
 * Invariants, besides those of house_close(): there is exactly one last answer to each call that wants one, in the
 * order of the calls; it is compact JSON of known keys; its parameters are those that the interface promises for this
 * method or error; `continues` comes only to a call with `more`.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "bounds.h"
#include "house.h"
#include "idl.h"
#include "message.h"
#include "server.h"

#define HEAD 3
#define PENDING 64

enum {
	FLAG_HANG_UP = 1,               /* the client closes for good instead of half */
	FLAG_DISK_FULL = 2,
	FLAG_LAZY = 4,                  /* nothing is read before all is sent */
	FLAG_WATCH = 8,                 /* somebody else watches */
	FLAG_MOODS = 16                 /* workers do not always succeed */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct idl *interfaces[2];

/* --- the workers --- */

static struct {
	int64_t id;
	char op[16];
	char *name;
} pending[PENDING];
static uint32_t mood;
static bool moody;

/* 0: as it should be; 1 to n - 1: something else. */
static unsigned mood_next(unsigned n)
{
	mood = mood * 1664525 + 1013904223;
	return moody ? (mood >> 16) % (2 * n) % n : 0;
}

static void add_environment(struct text *out, const char *name, bool there)
{
	text_adds(out, "{\"name\":");
	text_add_json(out, name);
	text_adds(out, !there ? ",\"kind\":\"absent\"" : ",\"kind\":\"environment\"");
	text_adds(out, ",\"ino\":77,\"btime\":1,\"version\":\"3.12.1\",\"interpreter\":\"/usr/bin/python3\","
	    "\"executable\":\"bin/python\",\"implementation\":\"cpython\",\"creator\":\"venv\",\"pip\":true,"
	    "\"systemSitePackages\":false,\"createdAt\":1700000000000000}");
}

static const char interpreter[] = "\"interpreter\":{\"path\":\"/usr/bin/python3\",\"executable\":\"/usr/bin/python3.12\","
    "\"implementation\":\"cpython\",\"version\":\"3.12.1\",\"source\":\"PATH\",\"state\":\"usable\"},\"reason\":\"found\"";

/* Answers that need no more than the order; the first is the good one. */
static const struct {
	const char *op, *text[4];
} answers[] = {
	{ "trash", { "", "!NoSuchEnvironment{\"name\":\"x\"}", "!Unsupported{\"reason\":\"no\"}", "!Failed{\"reason\":\"no\"}" } },
	{ "restore", { "", "\"left\":true", "!AlreadyExists{\"name\":\"x\"}", "!NotInTrash{\"name\":\"x\"}" } },
	{ "discard", { "", "!Failed{\"reason\":\"no\"}" } },
	{ "inuse", { "\"processes\":[],\"standing\":[],\"more\":0",
	    "\"processes\":[{\"pid\":5,\"command\":\"python\"}],\"standing\":[{\"pid\":6,\"command\":\"sh\"}],\"more\":2",
	    "\"processes\":[],\"standing\":[{\"pid\":6,\"command\":\"sh\"}],\"more\":0", "!Failed{\"reason\":\"no\"}" } },
	{ "settle", { "\"renamed\":false", "\"renamed\":true,\"from\":\"a\",\"to\":\"z\",\"ino\":1000,\"btime\":1",
	    "!Failed{\"reason\":\"no\"}" } },
	{ "image", { "\"image\":\"k\",\"python\":\"/usr/bin/python3\",\"version\":\"3.12.1\",\"bytes\":9,\"fresh\":true",
	    "\"image\":\"k\",\"delegate\":\"strange\"", "!InterpreterFailed{\"interpreter\":\"p\",\"reason\":\"no\"}" } },
	{ "fill", { "\"made\":4,\"bytes\":4096,\"how\":\"hardlink\"", "\"damaged\":\"a byte\"", "\"made\":0",
	    "!NoSpace{\"reason\":\"full\"}" } },
	{ "evict", { "\"removed\":1", "!Failed{\"reason\":\"no\"}" } },
	{ "packages", { "\"packages\":[{\"name\":\"p\",\"version\":\"1\"}]", "!Failed{\"reason\":\"no\"}" } },
	{ "purge", { "\"removed\":1,\"kept\":[]", "\"removed\":0,\"kept\":[\"busy\"]", "!Failed{\"reason\":\"no\"}" } },
	{ "purge-name", { "", "!NoSuchEnvironment{\"name\":\"x\"}", "!Failed{\"reason\":\"no\"}" } },
};

static void answer(struct house_worker *w, int64_t id, const char *text)
{
	_cleanup_text_ struct text out = { 0 };
	text_addf(&out, "{\"id\":%lld,\"done\":true", (long long)id);
	size_t name = strcspn(text, "{");
	if (text[0] == '!')
		text_addf(&out, ",\"syncFailed\":false,\"error\":\"io.venvd.%.*s\",\"parameters\":%s", (int)name - 1, text + 1,
		    text + name);
	else if (text[0] != '\0')
		text_addf(&out, ",%s", text);
	text_add(&out, "}", 2);
	house_say(w, out.data, out.len);
}

static void answer_environment(struct house_worker *w, int64_t id, const char *name)
{
	_cleanup_text_ struct text out = { 0 };
	text_adds(&out, "\"environment\":");
	add_environment(&out, name, true);
	text_adds(&out, ",\"creator\":\"venv\"");
	answer(w, id, out.data);
}

static void say(struct house_worker *w, int64_t id, const char *kind, const char *fields)
{
	_cleanup_text_ struct text out = { 0 };
	text_addf(&out, "{\"id\":%lld,\"frame\":\"%s\"%s%s}", (long long)id, kind, *fields ? "," : "", fields);
	text_add(&out, "", 1);
	house_say(w, out.data, out.len);
}

static void reserve(struct house_worker *w, int64_t id, const char *op, const char *name)
{
	size_t i = 0;
	while (i < PENDING && pending[i].name != NULL)
		i++;
	if (i == PENDING) {
		answer(w, id, "!Failed{\"reason\":\"too many\"}");
		return;
	}
	pending[i].id = id;
	pending[i].name = xstrdup(name);
	snprintf(pending[i].op, sizeof(pending[i].op), "%s", op);
	_cleanup_free_ char *fields = xasprintf("\"ino\":77,\"btime\":1,%s,\"warnings\":[\"w\"],\"made\":%s,\"image\":\"k\","
	    "\"bucket\":\"k-0\",\"left\":%u,\"order\":{\"op\":\"fill\",\"image\":\"k\",\"bucket\":\"k-0\"}",
	    interpreter, mood_next(2) ? "true" : "false", mood_next(4));
	say(w, id, "reserved", fields);
}

static void go(struct house_worker *w, int64_t id, bool yes)
{
	for (size_t i = 0; i < PENDING; i++) {
		if (pending[i].name == NULL || pending[i].id != id)
			continue;
		_cleanup_free_ char *name = pending[i].name;
		pending[i].name = NULL;
		unsigned how = mood_next(4);
		if (!yes)
			answer(w, id, "!Cancelled{}");
		else if (how == 1)
			answer(w, id, "!AlreadyExists{\"name\":\"x\"}");
		else if (how == 2)
			house_end(w, 6);
		else if (how == 3)
			answer(w, id, "!NoSpace{\"reason\":\"full\"}");
		else
			answer_environment(w, id, name);
		return;
	}
}

static void claim(struct house_worker *w, int64_t id, const char *name)
{
	static const char *const misses[] = {
		"\"miss\":\"interpreter\",\"key\":\"i\",\"order\":{\"op\":\"resolve\",\"python\":[]}",
		"\"miss\":\"image\",\"key\":\"k\",\"order\":{\"op\":\"image\",\"python\":\"/usr/bin/python3\",\"withoutPip\":false}",
		"\"miss\":\"entry\",\"key\":\"k-0\",\"order\":{\"op\":\"fill\",\"image\":\"k\",\"bucket\":\"k-0\"}",
		"\"miss\":\"place\",\"reason\":\"strange\"", "!AlreadyExists{\"name\":\"x\"}",
		"!NoSuchInterpreter{\"interpreter\":\"p\",\"reason\":\"no\"}",
	};
	unsigned how = mood_next(ARRAY_LENGTH(misses) + 1);
	if (how > 0)
		answer(w, id, misses[how - 1]);
	else
		reserve(w, id, "claim", name);
}

static const char findings[] = "[{\"kind\":\"files\",\"text\":\"it lacks some\",\"repairable\":true,\"command\":\"x\"}]";

static void diagnose(struct house_worker *w, int64_t id, const json_t *order)
{
	json_t *one;
	size_t i;
	json_array_foreach(json_object_get(order, "environments"), i, one) {
		_cleanup_text_ struct text text = { 0 };
		text_adds(&text, "\"name\":");
		text_add_json(&text, json_string_value(json_object_get(json_object_get(one, "source"), "name")));
		text_addf(&text, ",\"findings\":%s", mood_next(2) ? findings : "[]");
		say(w, id, "diagnosis", text.data);
	}
	answer(w, id, mood_next(3) ? "!Failed{\"reason\":\"no\"}" : "");
}

static void repair(struct house_worker *w, int64_t id, const json_t *order)
{
	_cleanup_text_ struct text text = { 0 };
	const char *name = json_string_value(json_object_get(json_object_get(order, "source"), "name"));
	say(w, id, "progress", "\"stage\":\"repair\"");
	text_adds(&text, "\"environment\":");
	add_environment(&text, name != NULL ? name : "", true);
	text_addf(&text, ",\"repaired\":%s,\"remaining\":[]", findings);
	answer(w, id, mood_next(3) ? "!Failed{\"reason\":\"no\"}" : text.data);
}

/* Orders that say something before they answer, or use what they were asked. */
static bool converse(struct house_worker *w, int64_t id, const char *op, const char *name, const json_t *order)
{
	_cleanup_text_ struct text text = { 0 };
	if (strcmp(op, "claim") == 0) {
		claim(w, id, name);
	} else if (strcmp(op, "create") == 0 || strcmp(op, "clone") == 0 || strcmp(op, "rename") == 0) {
		say(w, id, "progress", "\"stage\":\"build\"");
		reserve(w, id, op, name);
	} else if (strcmp(op, "resolve") == 0 || strcmp(op, "python") == 0) {
		const char *verb = json_string_value(json_object_get(order, "verb"));
		text_adds(&text, "");
		if (verb == NULL || strcmp(verb, "add") == 0)
			text_addf(&text, "%s%s", interpreter, verb == NULL ? ",\"rule\":\"path\",\"warnings\":[]" : "");
		answer(w, id, mood_next(3) ? "!NoSuchInterpreter{\"interpreter\":\"p\",\"reason\":\"no\"}" : text.data);
	} else if (strcmp(op, "interpreters") == 0) {
		text_addf(&text, "%.*s", (int)(strstr(interpreter, ",\"reason") - interpreter), interpreter);
		say(w, id, "interpreter", text.data);
		say(w, id, "interpreter", text.data);
		answer(w, id, "");
	} else if (strcmp(op, "diagnose") == 0) {
		diagnose(w, id, order);
	} else if (strcmp(op, "repair") == 0) {
		repair(w, id, order);
	} else if (strcmp(op, "inspect") == 0) {
		const json_t *names = json_object_get(order, "names"), *paths = json_object_get(order, "paths");
		const char *first = json_string_value(json_array_get(json_array_size(names) > 0 ? names : paths, 0));
		text_adds(&text, "\"environments\":[");
		add_environment(&text, first != NULL ? first : "", mood_next(4) != 3);
		text_adds(&text, "]");
		say(w, id, "environments", text.data);
		answer(w, id, "");
	} else {
		return false;
	}
	return true;
}

void house_order(struct house_worker *w, const char *text, size_t len)
{
	json_t *order = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	assert(json_is_object(order));
	int64_t id = json_integer_value(json_object_get(order, "id"));
	const char *op = json_string_value(json_object_get(order, "op"));
	const char *name = json_string_value(json_object_get(order, "name"));
	assert(id > 0 && (op != NULL || json_is_boolean(json_object_get(order, "go"))));
	if (op == NULL) {
		go(w, id, json_is_true(json_object_get(order, "go")));
	} else if (mood_next(16) == 15) {
		house_end(w, 11);
	} else if (!converse(w, id, op, name != NULL ? name : "", order)) {
		size_t i = 0, count = 0;
		while (i < ARRAY_LENGTH(answers) && strcmp(answers[i].op, op) != 0)
			i++;
		assert(i < ARRAY_LENGTH(answers));
		while (count < 4 && answers[i].text[count] != NULL)
			count++;
		answer(w, id, answers[i].text[mood_next((unsigned)count)]);
	}
	json_decref(order);
}

/* --- the clients --- */

struct client {
	int fd;
	const uint8_t *data;
	size_t size, sent, piece;
	bool hang_up, lazy, shut;
	struct text out;
};
static struct client clients[2];
static size_t client_count;

static bool client_send(struct client *c)
{
	if (c->shut)
		return false;
	size_t n = c->size - c->sent < c->piece ? c->size - c->sent : c->piece;
	ssize_t sent = n > 0 ? send(c->fd, c->data + c->sent, n, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
	if (sent > 0)
		c->sent += (size_t)sent;
	if (c->sent < c->size && (sent >= 0 || errno == EAGAIN))
		return sent > 0;
	c->shut = true;
	if (c->hang_up)
		close(c->fd), c->fd = -1;
	else
		shutdown(c->fd, SHUT_WR);
	return true;
}

static bool client_receive(struct client *c)
{
	static char buffer[64 * 1024];
	ssize_t n = c->fd < 0 || (c->lazy && !c->shut) ? -1 : recv(c->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	if (n > 0)
		text_add(&c->out, buffer, (size_t)n);
	return n > 0;
}

bool house_beside(void)
{
	bool any = false;
	for (size_t i = 0; i < client_count; i++) {
		any |= client_send(&clients[i]);
		any |= client_receive(&clients[i]);
	}
	return any;
}

static struct server *client_connect(const void *data, size_t size, size_t piece, unsigned flags)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		abort();
	clients[client_count++] = (struct client){ .fd = pair[0], .data = data, .size = size, .piece = piece,
		.hang_up = flags & FLAG_HANG_UP, .lazy = flags & FLAG_LAZY };
	return server_serve(&house, pair[1]);
}

/* --- what must come back --- */

static const struct idl *interface_of(const char *name, const char **ret_bare)
{
	const char *dot = strrchr(name, '.');
	for (size_t i = 0; dot != NULL && i < ARRAY_LENGTH(interfaces); i++) {
		const char *interface = idl_name(interfaces[i]);
		*ret_bare = dot + 1;
		if (strlen(interface) == (size_t)(dot - name) && strncmp(interface, name, strlen(interface)) == 0)
			return interfaces[i];
	}
	return NULL;
}

/* One reply to this call; true if it is the last one to it. */
static bool check_reply(const char *frame, size_t len, const struct call *call)
{
	json_error_t why;
	json_t *reply = json_loadb(frame, len, JSON_REJECT_DUPLICATES, &why);
	assert(json_is_object(reply));
	const json_t *parameters = json_object_get(reply, "parameters"), *error = json_object_get(reply, "error");
	const json_t *continues = json_object_get(reply, "continues");
	assert(json_is_object(parameters));
	assert(json_object_size(reply) == 1u + (error != NULL) + (continues != NULL));
	assert(continues == NULL || (json_is_true(continues) && call->more && error == NULL));
	const char *bare = NULL;
	const struct idl *idl = interface_of(error != NULL ? json_string_value(error) : call->method, &bare);
	assert(idl != NULL);
	_cleanup_free_ char *unfit = error != NULL ? idl_check_error(idl, bare, parameters) :
	    idl_check_reply(idl, idl_method(idl, bare), parameters);
	if (unfit != NULL)
		fprintf(stderr, "not as described: %s: %.*s\n", unfit, (int)len, frame);
	assert(unfit == NULL);
	char *compact = json_dumps(reply, JSON_COMPACT | JSON_SORT_KEYS);
	assert(compact != NULL);
	free(compact);
	json_decref(reply);
	return continues == NULL;
}

/* The calls that want an answer, as somebody else would read them. */
static size_t read_calls(const uint8_t *data, size_t size, bool half, struct call *ret, size_t max)
{
	size_t count = 0, len;
	for (size_t at = 0; at < size; at += len + 1) {
		const uint8_t *nul = memchr(data + at, 0, size - at);
		len = nul != NULL ? (size_t)(nul - data) - at : size - at;
		_cleanup_free_ char *frame = xcalloc(len + 1, 1);
		struct call call;
		memcpy(frame, data + at, len);
		if (nul == NULL && (!half || frame[strspn(frame, " \t\r\n")] == '\0'))
			break;
		if (len > LIMIT_FRAME_BYTES || call_parse(frame, len, &call) != NULL)
			break;
		if (call.oneway || count == max)
			call_done(&call);
		else
			ret[count++] = call;
	}
	return count;
}

static bool is_watch(const struct call *call)
{
	if (!call->more || strcmp(call->method, "io.venvd.Watch") != 0)
		return false;
	_cleanup_free_ char *unfit = idl_check_call(interfaces[0], idl_method(interfaces[0], "Watch"), call->parameters);
	return unfit == NULL;
}

static void check(const struct client *c)
{
	static struct call calls[70000 / 12];
	size_t count = read_calls(c->data, c->size, !c->hang_up, calls, ARRAY_LENGTH(calls));
	size_t at = 0, answered = 0, endless = count;
	for (size_t i = count; i-- > 0;)
		if (is_watch(&calls[i]))
			endless = i;
	while (at < c->out.len) {
		const char *nul = memchr(c->out.data + at, 0, c->out.len - at);
		assert(nul != NULL && answered < count);
		size_t len = (size_t)(nul - c->out.data) - at;
		bool last = check_reply(c->out.data + at, len, &calls[answered]);
		assert(!last || answered != endless);
		answered += last;
		at += len + 1;
	}
	assert(answered == endless);
	for (size_t i = 0; i < count; i++)
		call_done(&calls[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char watch[] = "{\"method\":\"io.venvd.Watch\",\"more\":true}";
	for (size_t i = 0; interfaces[0] == NULL || interfaces[i] == NULL; i++) {
		char *why = NULL;
		interfaces[i] = idl_parse(i == 0 ? idl_text_io_venvd : idl_text_org_varlink_service, &why);
		assert(interfaces[i] != NULL);
		if (i == 1)
			break;
	}
	if (size < HEAD)
		return 0;
	unsigned flags = data[2];
	client_count = 0;
	mood = data[1];
	moody = flags & FLAG_MOODS;
	house_open(false);
	house_disk_is_full = flags & FLAG_DISK_FULL;
	house.server = client_connect(data + HEAD, size - HEAD, data[0] > 0 ? data[0] : size, flags);
	struct server *other = NULL;
	if (flags & FLAG_WATCH) {
		other = client_connect(watch, sizeof(watch), sizeof(watch), 0);
		clients[1].shut = true;         /* it listens */
		if (send(clients[1].fd, watch, sizeof(watch), MSG_NOSIGNAL) != sizeof(watch))
			abort();
	}
	house_settle();
	if (!(flags & FLAG_HANG_UP))
		check(&clients[0]);
	if (other != NULL)
		check(&clients[1]);
	house.stopping = true;                  /* the connection is not the daemon's last one */
	server_free(other);
	server_free(house.server);
	house.stopping = false;
	house_close();
	for (size_t i = 0; i < client_count; i++) {
		if (clients[i].fd >= 0)
			close(clients[i].fd);
		text_done(&clients[i].out);
	}
	for (size_t i = 0; i < PENDING; i++) {
		free(pending[i].name);
		pending[i].name = NULL;
	}
	return 0;
}
