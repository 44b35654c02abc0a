/* SPDX-License-Identifier: MIT */
/*
 * A catalog whose bytes are not as SQLite wrote them (store.c, store_file.c, environment.c; SQLite inside). The input is the
 * file; its mutations are a few bytes at a time, most of them where pages say what they are. It is opened as the
 * daemon's start does it, its rows are read, one is written, and it is opened once more.
 *
 * Invariants: it is opened, or refused with a sentence, or set aside: then the file is there under its other name, whole. An
 * opened one gives every row that SQLite itself finds in the table, and rows that the rest of the daemon can show. What
 * was committed is there when it is opened again. When a commit meets damage that the start has not seen, the daemon ends
 * and the file is aside, so that the next one does not end over it again.
 *
 * What comes after a file that was set aside does not depend on it: a new catalog is made. That takes longer than all else, so it
 * is done for one input of RARELY (by what is in it); for the others the disk is full by then (store_file_make() is
 * wrapped), and the daemon does not start, with the file aside.
 */
#include <assert.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "paths.h"
#include "store.h"

#define PAGE 4096
#define RARELY 32
#define NEWEST_SCHEMA 4         /* of daemon/store.c; its number is the last byte of user_version */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
void __wrap_abort(void);
void __real_abort(void);
char *__wrap_store_file_make(int dir_fd);
char *__real_store_file_make(int dir_fd);

static char *place;
static int place_fd = -1;
static jmp_buf ended;
static bool ends_allowed;
static uint32_t newest;         /* schema */
static bool is_rare;            /* this input */
static unsigned made;           /* so often its file was to be there */

/* --- what the rooms need of others --- */

void log_error(const char *fmt, ...)
{
	ends_allowed |= strncmp(fmt, "the catalog failed in", 21) == 0;
}

void __wrap_abort(void)
{
	if (ends_allowed)
		longjmp(ended, 1);
	__real_abort();
}

char *__wrap_store_file_make(int dir_fd)
{
	return made++ == 0 || is_rare ? __real_store_file_make(dir_fd) : xstrdup("the disk is full");
}

/* --- SQLite's memory --- */

/* SQLite is not instrumented: under the sanitizer's allocator it would be four times as slow and no better watched. */
#define CLASSES 40
#ifdef __clang__                /* which makes the targets; others only look at them */
#define PLAIN __attribute__((no_sanitize("address", "undefined", "coverage")))
#else
#define PLAIN
#endif

struct block {
	size_t size;                    /* a power of two, of what follows */
	struct block *next;             /* when it is free */
};
static struct block *unused[CLASSES];

static PLAIN unsigned class_of(size_t size)
{
	return 64 - (unsigned)__builtin_clzll((size < 32 ? 32 : size) - 1);
}

static PLAIN void *memory_take(int size)
{
	unsigned n = class_of((size_t)size);
	struct block *b = unused[n];
	if (b != NULL)
		unused[n] = b->next;
	else
		b = xmalloc(sizeof(*b) + ((size_t)1 << n));
	b->size = (size_t)1 << n;
	return b + 1;
}

static PLAIN void memory_give(void *p)
{
	struct block *b = p;
	if (p == NULL)
		return;
	b--;
	b->next = unused[class_of(b->size)];
	unused[class_of(b->size)] = b;
}

static PLAIN int memory_size(void *p)
{
	return p != NULL ? (int)((struct block *)p)[-1].size : 0;
}

static PLAIN void *memory_again(void *p, int size)
{
	if (size <= memory_size(p))
		return p;
	void *other = memory_take(size);
	memcpy(other, p, (size_t)memory_size(p));
	memory_give(p);
	return other;
}

static PLAIN int memory_round(int size)
{
	return size;
}

static int memory_begin(void *arg)
{
	(void)arg;
	return SQLITE_OK;
}

static void memory_end(void *arg)
{
	(void)arg;
}

static void take_memory(void)
{
	static const struct sqlite3_mem_methods ours = {
		memory_take, memory_give, memory_again, memory_size, memory_round, memory_begin, memory_end, NULL,
	};
	sqlite3_config(SQLITE_CONFIG_MALLOC, &ours);
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

/* --- mutations --- */

static unsigned chance;

static unsigned random_below(unsigned n)
{
	chance = chance * 1664525 + 1013904223;
	return (chance >> 8) % n;
}

/* Where a file says what it is: its header, the headers of pages, the first cells' pointers; else anywhere. */
static size_t somewhere(size_t size)
{
	unsigned page = size > PAGE ? random_below((unsigned)(size / PAGE)) * PAGE : 0;
	size_t at = random_below(4) == 0 ? random_below(100) : random_below(3) == 0 ? page + random_below(64) :
	    random_below(2) == 0 ? page + PAGE - 1 - random_below(600) : random_below((unsigned)size);
	return at < size ? at : size - 1;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
	chance = seed;
	if (size == 0)
		return LLVMFuzzerMutate(data, size, max);
	for (unsigned n = 1 + random_below(4); n > 0; n--) {
		size_t at = somewhere(size), window = 1 + random_below(8);
		if (window > size - at)
			window = size - at;
		switch (random_below(16)) {
		case 0:
			size = at + 1;          /* cut short */
			break;
		case 1:
			memmove(data + at, data + somewhere(size - window + 1), window);
			break;
		case 2:
			data[at] += random_below(2) == 0 ? 1 : -1;
			break;
		case 3:
			memset(data + at, 0, window);
			break;
		default:
			LLVMFuzzerMutate(data + at, window, window);
		}
	}
	return size;
}

/* --- what is in it, by SQLite alone --- */

/* The rows of a table, -1 if they cannot be read. No index has all of their columns. */
static int count_rows(sqlite3 *db, const char *table)
{
	_cleanup_free_ char *sql = xasprintf("SELECT * FROM %s", table);
	sqlite3_stmt *stmt = NULL;
	int count = 0, rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(stmt);
		count += rc == SQLITE_ROW;
	}
	sqlite3_finalize(stmt);
	return rc == SQLITE_DONE ? count : -1;
}

/* A copy in memory, which knows no write-ahead log: its header says so. */
static void look(const uint8_t *data, size_t size, int *ret_rows, int *ret_requests)
{
	sqlite3 *db = NULL;
	*ret_rows = *ret_requests = -1;
	if (size < 100 || sqlite3_open(":memory:", &db) != SQLITE_OK) {
		sqlite3_close(db);
		return;
	}
	uint8_t *copy = sqlite3_malloc64(size);
	memcpy(copy, data, size);
	copy[18] = copy[19] = 1;
	if (sqlite3_deserialize(db, "main", copy, (sqlite3_int64)size, (sqlite3_int64)size,
	    SQLITE_DESERIALIZE_FREEONCLOSE) == SQLITE_OK) {
		*ret_rows = count_rows(db, "environment");
		*ret_requests = count_rows(db, "request");
	}
	sqlite3_close(db);
}

/* --- the file --- */

static void forget_place(void)
{
	_cleanup_free_ char *command = xasprintf("rm -rf '%s'", place);
	if (system(command) != 0)
		return;
	free(place);
}

static uint32_t version_of(const uint8_t *data, size_t size)
{
	return size < 64 ? 0 : (uint32_t)data[60] << 24 | (uint32_t)data[61] << 16 | (uint32_t)data[62] << 8 | data[63];
}

/* The number of the schema that a new catalog has. */
static void learn_version(void)
{
	_cleanup_text_ struct text text = { 0 };
	char *why = NULL, *note = NULL;
	store_close(store_open(place_fd, "/r", &why, &note));
	_cleanup_fd_ int fd = openat(place_fd, PATH_CATALOG, O_RDONLY | O_CLOEXEC);
	assert(fd >= 0 && fd_read_all(fd, SIZE_MAX / 2, &text) == 0);
	newest = version_of((const uint8_t *)text.data, text.len);
	assert(newest >= 3);
}

static void make_place(void)
{
	take_memory();
	place = xasprintf("%s/venvd-fuzz-XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
	if (mkdtemp(place) == NULL)
		abort();
	atexit(forget_place);
	place_fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	learn_version();
}

static void clear_place(void)
{
	static const char *const names[] = { PATH_CATALOG, PATH_CATALOG "-wal", PATH_CATALOG "-journal", PATH_CATALOG ".damaged",
		PATH_CATALOG ".damaged-wal", PATH_CATALOG ".damaged-journal" };
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
		unlinkat(place_fd, names[i], 0);
}

static void write_file(const uint8_t *data, size_t size)
{
	_cleanup_fd_ int fd = openat(place_fd, PATH_CATALOG, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || fd_write_all(fd, data, size) != 0)
		abort();
}

static bool is_there(const char *name)
{
	return faccessat(place_fd, name, F_OK, 0) == 0;
}

/* Set aside, nothing of it is missing. SQLite may have noted in the header that it has a log now; one that calls itself
 * older may have been migrated before it turned out to be something else. */
static void check_aside(const uint8_t *data, size_t size)
{
	_cleanup_fd_ int fd = openat(place_fd, PATH_CATALOG ".damaged", O_RDONLY | O_CLOEXEC);
	_cleanup_text_ struct text text = { 0 };
	assert(fd >= 0 && fd_read_all(fd, SIZE_MAX / 2, &text) == 0);
	if (size >= 64 && data[63] != 0 && data[63] < NEWEST_SCHEMA)
		return;                 /* it may have been brought up to date before its rows were read */
	assert(text.len >= size);
	if (version_of(data, size) >= 1 && version_of(data, size) < newest)
		return;
	for (size_t i = 0; i < size; i++)
		assert((uint8_t)text.data[i] == data[i] || i < 100);
}

/* --- rows --- */

static int rows, requests;
static bool found_ours, found_request, again;          /* again: the rows have been looked at before */

static void take_row(struct environment *env, void *arg)
{
	(void)arg;
	rows++;
	found_ours |= strcmp(env->id, "fuzzfuzzfuzzfuzz") == 0;
	assert(env->name != NULL && env->name[0] != '\0' && env->state < STATE_COUNT && env->intent <= INTENT_REBUILD);
	if (again) {
		environment_free(env);
		return;
	}
	struct text out = { 0 };
	environment_add_json(&out, env, "/r", FIELDS_ALL);
	json_t *streamed = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
	json_t *value = environment_to_json(env, "/r", FIELDS_ALL);
	assert(json_is_object(streamed) && json_is_object(value));
	json_t *record = environment_to_record(env);
	assert(json_is_object(record));
	environment_free(environment_from_record(record));
	json_decref(record);
	json_decref(streamed);
	json_decref(value);
	text_done(&out);
	environment_free(env);
}

static void take_request(struct store_request *request, void *arg)
{
	(void)arg;
	requests++;
	found_request |= strcmp(request->id, "fuzz") == 0;
	assert(request->id != NULL && request->method != NULL);
	store_request_free(request);
}

/* NULL: refused. */
static struct store *open_catalog(bool *ret_aside)
{
	made = 0;
	char *why = NULL, *note = NULL;
	struct store *store = store_open(place_fd, "/r", &why, &note);
	assert((store == NULL) == (why != NULL) && (store != NULL || note == NULL));
	*ret_aside = note != NULL || made > 1;
	free(why);
	free(note);
	return store;
}

static void write_and_reopen(struct store *store, int before)
{
	struct environment *env = environment_new("fuzz");
	bool aside;
	memcpy(env->id, "fuzzfuzzfuzzfuzz", 16);
	const struct store_request request = { .id = (char[]){ "fuzz" }, .method = (char[]){ "io.venvd.Create" },
		.fingerprint = "0", .environment_id = "fuzzfuzzfuzzfuzz", .at_us = 1 };
	store_put_both(store, env, &request, NULL, NULL);
	environment_free(env);
	ends_allowed = false;
	if (setjmp(ended) != 0) {
		ends_allowed = false;
		assert(is_there(PATH_CATALOG ".damaged"));
		return;
	}
	store_close(store);
	store = open_catalog(&aside);
	assert(store != NULL && !aside);
	rows = requests = 0;
	found_ours = found_request = false;
	again = true;
	assert(store_load(store, take_row, take_request, NULL) == 0);
	assert(found_ours && found_request && rows >= before);
	store_close(store);
}

static bool is_chosen(const uint8_t *data, size_t size)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < size; i += 7)
		sum = sum * 31 + data[i];
	return (sum >> 8) % RARELY == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int expected_rows, expected_requests;
	bool aside;
	if (place_fd < 0)
		make_place();
	clear_place();
	write_file(data, size);
	is_rare = is_chosen(data, size);
	ends_allowed = false;
	struct store *store = open_catalog(&aside);
	rows = requests = 0;
	again = false;
	if (aside)
		check_aside(data, size);
	if (store == NULL)
		return 0;
	int loaded = store_load(store, take_row, take_request, NULL);
	assert(!aside || (loaded == 0 && rows == 0 && requests == 0));
	if (!aside && loaded == 0) {
		look(data, size, &expected_rows, &expected_requests);
		assert(expected_rows < 0 || rows == expected_rows);
		assert(expected_requests < 0 || requests == expected_requests);
	}
	if (loaded == 0)
		write_and_reopen(store, rows);
	else
		store_close(store);
	return 0;
}
