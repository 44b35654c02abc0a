/* SPDX-License-Identifier: MIT */
/* How much is kept of what is prepared, and what is let go: bounds, ages, and the orders that say so. */
#include <string.h>
#include "unit.h"
#include "bounds.h"
#include "stock.h"

#define MINUTE 60000000LL

static int setup(void **state)
{
	static struct config config;
	struct stock *stock = xcalloc(1, sizeof(*stock));

	config.value[CONFIG_POOL_ENTRIES] = 10;
	config.value[CONFIG_POOL_INITIAL] = 2;
	config.value[CONFIG_POOL_MIB] = 100;
	config.value[CONFIG_IMAGE_SECONDS] = 3600;
	stock_init(stock, &config);
	*state = stock;
	return 0;
}

static int teardown(void **state)
{
	stock_done(*state);
	free(*state);
	return 0;
}

static struct bucket *bucket(struct stock *s, const char *name, int64_t entries, int64_t minutes_ago)
{
	struct bucket *b = stock_bucket(s, name, name);

	stock_image(s, name)->used_at = b->used_at = now_us() - minutes_ago * MINUTE;
	b->entries = b->target = entries;
	return b;
}

/* What an order lets go, as "bucket:keep bucket:keep image"; takes it. */
static void evicts(json_t *order, const char *expected)
{
	_cleanup_text_ struct text text = { 0 };
	size_t i;
	json_t *one;

	text_adds(&text, "");
	json_array_foreach(json_object_get(order, "buckets"), i, one)
		text_addf(&text, "%s:%d ", json_string_value(json_object_get(one, "bucket")),
		    (int)json_integer_value(json_object_get(one, "keep")));
	json_array_foreach(json_object_get(order, "images"), i, one)
		text_addf(&text, "%s ", json_string_value(one));
	assert_string_equal(text.data ? text.data : "", expected);
	json_decref(order);
}

static void targets_stay_within_the_bounds(void **state)
{
	struct stock *s = *state;
	struct bucket *a = bucket(s, "a", 0, 0), *b = bucket(s, "b", 0, 1);

	evicts(stock_set_target(s, a, 0), "");
	assert_int_equal(a->target, 2);
	evicts(stock_set_target(s, a, 100), "");
	assert_int_equal(a->target, 10);
	/* The other one needs its first size: who has not been used longer gives all that it has. */
	a->entries = 10;
	a->used_at = 1;
	evicts(stock_set_target(s, b, 3), "a:0 ");
	assert_int_equal(b->target, 3);
	assert_int_equal(a->target + a->entries, 0);
	/* Nobody takes from one that somebody waits for. */
	a->entries = a->target = 10;
	a->waiting = 1;
	evicts(stock_set_target(s, b, 3), "");
	assert_int_equal(b->target, 0);
}

static void bytes_count(void **state)
{
	struct stock *s = *state;
	struct bucket *a = bucket(s, "a", 3, 0), *b = bucket(s, "b", 0, 0);

	a->bytes = b->bytes = 20 * 1024 * 1024;
	assert_int_equal(stock_room(s, b), 2);
	b->bytes = 0;
	assert_int_equal(stock_room(s, b), 7);
}

static void what_is_quiet_shrinks(void **state)
{
	struct stock *s = *state;
	struct bucket *a = bucket(s, "a", 6, 11), *b = bucket(s, "b", 4, 5);

	assert_true(stock_due(s) <= now_us());
	evicts(stock_decay(s), "a:2 ");
	assert_int_equal(a->entries, 2);
	assert_int_equal(b->entries, 4);
	assert_true(stock_due(s) > now_us());
	evicts(stock_decay(s), "");
	/* Whoever is busy with it looks again when he is done. */
	b->used_at -= 10 * MINUTE;
	b->filling = 1;
	evicts(stock_decay(s), "");
	b->filling = 0;
	evicts(stock_decay(s), "b:2 ");
}

static void what_is_unused_goes(void **state)
{
	struct stock *s = *state;
	struct bucket *a = bucket(s, "a", 1, 61);

	bucket(s, "b", 1, 59);
	a->waiting = 1;
	evicts(stock_decay(s), "");
	a->waiting = 0;
	evicts(stock_decay(s), "a:0 a ");
	assert_null(stock_find_image(s, "a"));
	assert_non_null(stock_find_image(s, "b"));
	json_t *images = stock_images(s);
	assert_int_equal(json_array_size(images), 1);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(images, 0), "pool")), 1);
	json_decref(images);
}

static void nothing_is_due_when_there_is_nothing(void **state)
{
	assert_int_equal(stock_due(*state), 0);
}

static void images_are_bounded(void **state)
{
	struct stock *s = *state;
	char name[16];

	for (int i = 0; i < LIMIT_IMAGES; i++) {
		snprintf(name, sizeof(name), "i%d", i);
		bucket(s, name, 1, i == 7 ? 30 : 1);
		assert_null(stock_limit_images(s));
	}
	bucket(s, "new", 0, 0);
	evicts(stock_limit_images(s), "i7:0 i7 ");
	assert_null(stock_limit_images(s));
}

static void damage_takes_all_that_shares_it(void **state)
{
	struct stock *s = *state;
	struct bucket *a = bucket(s, "a", 3, 0), *copies = stock_bucket(s, "a~copies", "a");

	copies->entries = 2;
	bucket(s, "b", 1, 0);
	evicts(stock_damaged(s, "a"), "a:0 a~copies:0 ");
	assert_int_equal(a->entries + copies->entries, 0);
	assert_null(stock_find_image(s, "a"));
}

/* What the scan found, and bounds that are lower than last time. */
static void scans(void **state)
{
	struct stock *s = *state;
	json_t *frame = json_loads("{\"buckets\":[{\"bucket\":\"k~022\",\"image\":\"k\",\"entries\":12}, {}],"
	    "\"images\":[{\"image\":\"k\",\"usedAt\":5,\"bytes\":7,\"python\":\"/p\",\"version\":\"3.11.2\"}, {}]}", 0, NULL);

	stock_scanned(s, frame);
	json_decref(frame);
	struct bucket *b = stock_bucket(s, "k~022", "k");
	assert_int_equal(b->entries, 12);
	assert_int_equal(b->used_at, 5);
	evicts(stock_fit(s), "k~022:10 ");
	evicts(stock_fit(s), "");
	json_t *images = stock_images(s);
	char *text = json_dumps(images, JSON_COMPACT);
	assert_string_equal(text, "[{\"key\":\"k\",\"interpreter\":\"/p\",\"version\":\"3.11.2\",\"pool\":10,"
	    "\"usedAt\":5,\"bytes\":7}]");
	free(text);
	json_decref(images);
}

/* A worker may say anything; it is reckoned with all the same. */
static void says_what_nobody_can_count(void **state)
{
	struct stock *s = *state;
	json_t *frame = json_pack("{s:[{s:s,s:I,s:I},{s:s,s:I,s:I}],s:[{s:s,s:s,s:I},{s:s,s:s,s:I},{s:s,s:s,s:I}]}", "images",
	    "image", "k", "usedAt", (json_int_t)INT64_MAX, "bytes", (json_int_t)INT64_MAX,
	    "image", "l", "usedAt", (json_int_t)INT64_MIN, "bytes", (json_int_t)INT64_MIN, "buckets",
	    "bucket", "a", "image", "k", "entries", (json_int_t)INT64_MAX,
	    "bucket", "b", "image", "k", "entries", (json_int_t)INT64_MAX,
	    "bucket", "c", "image", "l", "entries", (json_int_t)INT64_MIN);
	int64_t now = now_us();

	stock_scanned(s, frame);
	struct bucket *a = stock_bucket(s, "a", "k"), *c = stock_bucket(s, "c", "l");
	assert_int_equal(a->entries, STOCK_ENTRIES_MAX);
	assert_in_range(a->used_at, now, now_us());
	assert_int_equal(c->entries, 0);
	assert_int_equal(c->used_at, 0);
	a->bytes = stock_bucket(s, "b", "k")->bytes = stock_number(json_array_get(json_object_get(frame, "images"), 0), "bytes",
	    STOCK_BYTES_MAX);
	c->bytes = 1;
	assert_int_equal(a->bytes, STOCK_BYTES_MAX);
	assert_int_equal(stock_room(s, c), 0);
	assert_int_equal(stock_due(s), 3600 * 1000000LL);
	evicts(stock_fit(s), "a:0 b:0 ");
	json_decref(frame);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(targets_stay_within_the_bounds),
		TEST(bytes_count),
		TEST(what_is_quiet_shrinks),
		TEST(what_is_unused_goes),
		TEST(nothing_is_due_when_there_is_nothing),
		TEST(images_are_bounded),
		TEST(damage_takes_all_that_shares_it),
		TEST(scans),
		TEST(says_what_nobody_can_count),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
