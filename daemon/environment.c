/* SPDX-License-Identifier: MIT */
/*
 * One environment: made, copied, written as JSON, filled from what a worker found. The room has two
 * tables. `fields` gives the order and the names of the IDL's Environment, and is walked by hand
 * for speed: a list of 10,000 is written with it, straight into the output. `details` names the
 * strings that an inspection and a trash record carry under the same keys, so that neither forgets
 * one.
 *
 * Invariants: id is 16 hexadecimal digits and never changes; name never changes while an index
 * holds the environment. What it knows of the disk is what was last told; looking is for the
 * workers.
 */
#include <string.h>
#include "environment.h"
#include "names.h"
#include "paths.h"

enum field {            /* in the IDL's order */
	FIELD_NAME, FIELD_ID, FIELD_PATH, FIELD_STATE, FIELD_EXECUTABLE, FIELD_INTERPRETER,
	FIELD_IMPLEMENTATION, FIELD_VERSION, FIELD_PROMPT, FIELD_PROJECT,
	FIELD_SYSTEM_SITE_PACKAGES, FIELD_PIP, FIELD_ORIGIN, FIELD_CREATOR, FIELD_CREATED_AT,
	FIELD_DELETED_AT, FIELD_EXPIRES_AT, FIELD_PROBLEM, FIELD_OPTIONS, FIELD_PROTECTED, FIELD_COUNT
};

static const char *const fields[FIELD_COUNT] = {
	"name", "id", "path", "state", "executable", "interpreter", "implementation", "version",
	"prompt", "project", "systemSitePackages", "pip", "origin", "creator", "createdAt",
	"deletedAt", "expiresAt", "problem", "options", "protected"
};

static const char *const states[STATE_COUNT] = {
	"creating", "ready", "broken", "missing", "trashed", "foreign"
};

static const struct {
	const char *key;
	size_t offset;
} details[] = {
	{ "executable", offsetof(struct environment, executable) },
	{ "interpreter", offsetof(struct environment, interpreter) },
	{ "implementation", offsetof(struct environment, implementation) },
	{ "version", offsetof(struct environment, version) },
	{ "prompt", offsetof(struct environment, prompt) },
	{ "project", offsetof(struct environment, project) },
	{ "creator", offsetof(struct environment, creator) },
	{ "problem", offsetof(struct environment, problem) },
};

static const char **detail(struct environment *env, size_t i)
{
	return (const char **)((char *)env + details[i].offset);
}

struct environment *environment_empty(void)
{
	struct environment *env = xcalloc(1, sizeof(*env));

	env->system_site_packages = env->pip = -1;
	return env;
}

struct environment *environment_new(const char *name)
{
	struct environment *env = environment_empty();

	id_new(env->id);
	env->name = xstrdup(name);
	return env;
}

/* What is of the index alone, as it is in from. */
static void index_members(struct environment *env, const struct environment *from)
{
	env->counted = from->counted;
	env->touched = from->touched;
	env->unseen = from->unseen;
	env->unrecorded = from->unrecorded;
	env->restoring = from->restoring;
	env->busy = from->busy;
	env->next = from->next;
	env->node = from->node;
}

struct environment *environment_copy(const struct environment *from)
{
	struct environment *env = xmalloc(sizeof(*env));

	*env = *from;
	index_members(env, &(struct environment){ 0 });
	env->name = xstrdup(from->name);
	env->entry = xstrdup(from->entry);
	env->location = xstrdup(from->location);
	env->new_name = xstrdup(from->new_name);
	word_again(from->origin);
	word_again(from->options);
	for (size_t i = 0; i < ARRAY_LENGTH(details); i++)
		word_again(*detail(env, i));
	return env;
}

static void done(struct environment *env)
{
	for (size_t i = 0; i < ARRAY_LENGTH(details); i++)
		word_drop(*detail(env, i));
	word_drop(env->origin);
	word_drop(env->options);
	free(env->name);
	free(env->entry);
	free(env->location);
	free(env->new_name);
}

void environment_assign(struct environment *env, const struct environment *from)
{
	struct environment *copy = environment_copy(from);

	index_members(copy, env);
	done(env);
	*env = *copy;
	free(copy);
}

void environment_free(struct environment *env)
{
	if (!env)
		return;
	done(env);
	free(env);
}

const char *environment_state_name(enum environment_state state)
{
	return states[state];
}

int environment_state_from_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_LENGTH(states); i++)
		if (strcmp(states[i], name) == 0)
			return (int)i;
	return -1;
}

environment_fields environment_field_bit(const char *name)
{
	for (size_t i = 0; i < ARRAY_LENGTH(fields); i++)
		if (strcmp(fields[i], name) == 0)
			return (environment_fields)1 << i;
	return 0;
}

/* --- JSON ---------------------------------------------------------------------------------- */

static void add_key(struct text *out, enum field field)
{
	text_add(out, ",\"", 2);
	text_adds(out, fields[field]);
	text_add(out, "\":", 2);
}

static void add_string(struct text *out, enum field field, const char *value)
{
	if (!value)
		return;
	add_key(out, field);
	text_add_json(out, value);
}

static void add_flag(struct text *out, enum field field, int value)
{
	if (value < 0)
		return;
	add_key(out, field);
	text_adds(out, value ? "true" : "false");
}

/* By hand: printf is most of the price of a row otherwise. */
static void add_time(struct text *out, enum field field, int64_t us)
{
	char digits[20];
	size_t i = sizeof(digits);

	if (us <= 0)
		return;
	for (; us; us /= 10)
		digits[--i] = (char)('0' + us % 10);
	add_key(out, field);
	text_add(out, digits + i, sizeof(digits) - i);
}

/* Goes on with the JSON string that ends out: a slash in place of its closing quote, and then what
 * is below. A quote of the new string becomes the slash. */
static void add_component(struct text *out, const char *name)
{
	size_t at = --out->len;

	text_add_json(out, name);
	out->data[at] = '/';
}

/* A path of the environment: its directory, where it is now, and what is below it. */
static void add_path(struct text *out, enum field field, const struct environment *env,
    const char *root, const char *below)
{
	const char *base = env->location ? strrchr(env->location, '/') : NULL;
	bool trashed = env->state == STATE_TRASHED && env->entry;
	_cleanup_free_ char *parent = base && trashed ? xstrndup(env->location, (size_t)(base - env->location)) : NULL;
	_cleanup_free_ char *beside = parent ? xasprintf(PATH_BESIDE, base + 1) : NULL;
	add_key(out, field);
	text_add_json(out, parent ? parent : base ? env->location : strcmp(root, "/") == 0 ? "" : root);
	if (trashed) {
		add_component(out, beside ? beside : PATH_STATE "/" PATH_TRASH);
		add_component(out, env->entry);
		add_component(out, PATH_TREE);
	} else if (!base) {
		add_component(out, env->name);
	}
	if (below)
		add_component(out, below);
}

static void add_field(struct text *out, enum field field, const struct environment *env,
    const char *root)
{
	switch (field) {
	case FIELD_ID: add_string(out, field, env->id); break;
	case FIELD_PATH: add_path(out, field, env, root, NULL); break;
	case FIELD_STATE: add_string(out, field, states[env->state]); break;
	case FIELD_EXECUTABLE:
		if (env->executable)
			add_path(out, field, env, root, env->executable);
		break;
	case FIELD_INTERPRETER: add_string(out, field, env->interpreter); break;
	case FIELD_IMPLEMENTATION: add_string(out, field, env->implementation); break;
	case FIELD_VERSION: add_string(out, field, env->version); break;
	case FIELD_PROMPT: add_string(out, field, env->prompt); break;
	case FIELD_PROJECT: add_string(out, field, env->project); break;
	case FIELD_SYSTEM_SITE_PACKAGES: add_flag(out, field, env->system_site_packages); break;
	case FIELD_PIP: add_flag(out, field, env->pip); break;
	case FIELD_ORIGIN: add_string(out, field, env->origin); break;
	case FIELD_CREATOR: add_string(out, field, env->creator); break;
	case FIELD_CREATED_AT: add_time(out, field, env->created_at); break;
	case FIELD_DELETED_AT: add_time(out, field, env->deleted_at); break;
	case FIELD_EXPIRES_AT: add_time(out, field, env->expires_at); break;
	case FIELD_PROBLEM: add_string(out, field, env->problem); break;
	case FIELD_OPTIONS:
		if (!env->options)
			break;
		add_key(out, field);
		text_adds(out, env->options);
		break;
	case FIELD_PROTECTED:
		if (env->protected)
			add_flag(out, field, 1);
		break;
	case FIELD_NAME:
	case FIELD_COUNT: break;
	}
}

void environment_add_json(struct text *out, const struct environment *env, const char *root,
    environment_fields selected)
{
	text_adds(out, "{\"name\":");
	text_add_json(out, env->name);
	for (enum field field = FIELD_NAME + 1; field < FIELD_COUNT; field++)
		if (selected & (environment_fields)1 << field)
			add_field(out, field, env, root);
	text_add(out, "}", 1);
}

json_t *environment_to_json(const struct environment *env, const char *root,
    environment_fields selected)
{
	_cleanup_text_ struct text text = { 0 };

	/* One writer for both shapes: they cannot differ. */
	environment_add_json(&text, env, root, selected);
	json_t *value = json_loadb(text.data, text.len, 0, NULL);
	if (!value)
		abort();
	return value;
}

/* --- from a worker ------------------------------------------------------------------------- */

static void take_string(char **ret, const json_t *value)
{
	free(*ret);
	*ret = xstrdup(json_string_value(value));
}

static bool take_word(const char **ret, const json_t *value)
{
	const char *before = *ret;

	word_set(ret, json_string_value(value));
	return *ret != before;
}

static bool take_flag(int8_t *ret, const json_t *value)
{
	int8_t new = json_is_boolean(value) ? json_is_true(value) : -1;
	bool changed = *ret != new;

	*ret = new;
	return changed;
}

static bool take_integer(int64_t *ret, int64_t new)
{
	bool changed = *ret != new;

	*ret = new;
	return changed;
}

static int64_t integer_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static const char *string_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

bool environment_take_inspection(struct environment *env, const json_t *found)
{
	const char *kind = string_of(found, "kind");
	bool foreign = kind && strcmp(kind, "foreign") == 0;

	if (!kind || (!foreign && strcmp(kind, "environment") != 0))
		return false;
	enum environment_state state = foreign ? STATE_FOREIGN :
	    json_is_true(json_object_get(found, "broken")) ? STATE_BROKEN : STATE_READY;
	bool changed = env->state != state;
	env->state = state;
	changed |= take_integer(&env->ino, integer_of(found, "ino"));
	changed |= take_integer(&env->btime_ns, integer_of(found, "btime"));
	changed |= take_integer(&env->missing_since, 0);
	changed |= take_integer(&env->looked, integer_of(found, "looked"));
	if (env->created_at == 0)
		changed |= take_integer(&env->created_at, integer_of(found, "createdAt"));
	changed |= take_flag(&env->system_site_packages,
	    json_object_get(found, "systemSitePackages"));
	changed |= take_flag(&env->pip, json_object_get(found, "pip"));
	for (size_t i = 0; i < ARRAY_LENGTH(details); i++)
		changed |= take_word(detail(env, i), json_object_get(found, details[i].key));
	return changed;
}

/* --- the trash's record -------------------------------------------------------------------- */

static void set_string(json_t *record, const char *key, const char *value)
{
	if (!value)
		return;
	json_t *string = json_string(value);
	/* Names and details came as JSON and are UTF-8; what is not is better left out than made
	 * up. */
	if (string)
		json_object_set_new(record, key, string);
}

static void set_flag(json_t *record, const char *key, int value)
{
	if (value >= 0)
		json_object_set_new(record, key, json_boolean(value));
}

static void set_integer(json_t *record, const char *key, int64_t value)
{
	if (value)
		json_object_set_new(record, key, json_integer(value));
}

json_t *environment_to_record(const struct environment *env)
{
	json_t *record = json_object();

	set_string(record, "id", env->id);
	set_string(record, "name", env->name);
	set_string(record, "entry", env->entry);
	set_string(record, "origin", env->origin);
	for (size_t i = 0; i < ARRAY_LENGTH(details); i++)
		set_string(record, details[i].key, *detail((struct environment *)env, i));
	set_integer(record, "ino", env->ino);
	set_integer(record, "btime", env->btime_ns);
	set_flag(record, "systemSitePackages", env->system_site_packages);
	set_flag(record, "pip", env->pip);
	set_integer(record, "createdAt", env->created_at);
	set_integer(record, "deletedAt", env->deleted_at);
	set_integer(record, "expiresAt", env->expires_at);
	set_string(record, "location", env->location);
	if (env->options)
		json_object_set_new(record, "options", json_loads(env->options, 0, NULL));
	return record;
}

static bool id_fits(const char *id)
{
	return id && strlen(id) == 16 && strspn(id, "0123456789abcdef") == 16;
}

/* Only what the IDL's Options has, as it has it: they are sent to clients as they are. */
static bool options_fit(const json_t *options)
{
	static const char *const flags[] = { "withoutPip", "systemSitePackages", "copies",
		"upgradeDeps", "withoutScmIgnoreFiles" };
	size_t known = 0, i;
	const json_t *value, *python = json_object_get(options, "python");
	json_t *spec;

	for (i = 0; i < ARRAY_LENGTH(flags); i++)
		if ((value = json_object_get(options, flags[i])) && ++known && !json_is_boolean(value))
			return false;
	if ((value = json_object_get(options, "prompt")) && ++known && !json_is_string(value))
		return false;
	if (python && ++known && !json_is_array(python))
		return false;
	json_array_foreach((json_t *)python, i, spec)
		if (!json_is_string(spec))
			return false;
	return json_is_object(options) && known == json_object_size(options);
}

bool environment_options_fit(const char *text)
{
	json_t *options = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	bool fit = options_fit(options);

	json_decref(options);
	return fit;
}

/* Whether every member that is there has the type that it must have. A record is a file that
 * somebody may have edited: half of it is not taken. */
static bool record_fits(const json_t *record)
{
	static const char *const flags[] = { "systemSitePackages", "pip" };
	static const char *const integers[] = {
		"ino", "btime", "createdAt", "deletedAt", "expiresAt"
	};
	const json_t *value;

	for (size_t i = 0; i < ARRAY_LENGTH(details); i++)
		if ((value = json_object_get(record, details[i].key)) && !json_is_string(value))
			return false;
	for (size_t i = 0; i < ARRAY_LENGTH(flags); i++)
		if ((value = json_object_get(record, flags[i])) && !json_is_boolean(value))
			return false;
	for (size_t i = 0; i < ARRAY_LENGTH(integers); i++)
		if ((value = json_object_get(record, integers[i])) &&
		    (!json_is_integer(value) || json_integer_value(value) < 0))
			return false;
	value = json_object_get(record, "location");
	if (value && (!json_is_string(value) || *json_string_value(value) != '/'))
		return false;
	const char *entry = string_of(record, "entry"), *origin = string_of(record, "origin");
	return (!entry || (*entry && *entry != '.' && !strchr(entry, '/'))) &&
	    (!origin || strcmp(origin, "created") == 0 || strcmp(origin, "adopted") == 0) &&
	    id_fits(string_of(record, "id")) &&
	    !name_rule_broken(string_of(record, "name"));
}

struct environment *environment_from_record(const json_t *record)
{
	if (!record_fits(record))
		return NULL;
	struct environment *env = environment_new(string_of(record, "name"));
	memcpy(env->id, string_of(record, "id"), sizeof(env->id));
	env->state = STATE_TRASHED;
	take_string(&env->entry, json_object_get(record, "entry"));
	word_set(&env->origin, string_of(record, "origin"));
	for (size_t i = 0; i < ARRAY_LENGTH(details); i++)
		word_set(detail(env, i), string_of(record, details[i].key));
	env->ino = integer_of(record, "ino");
	env->btime_ns = integer_of(record, "btime");
	take_flag(&env->system_site_packages, json_object_get(record, "systemSitePackages"));
	take_flag(&env->pip, json_object_get(record, "pip"));
	env->created_at = integer_of(record, "createdAt");
	env->deleted_at = integer_of(record, "deletedAt");
	env->expires_at = integer_of(record, "expiresAt");
	take_string(&env->location, json_object_get(record, "location"));
	if (options_fit(json_object_get(record, "options"))) {
		char *text = json_dumps(json_object_get(record, "options"), JSON_COMPACT);
		word_set(&env->options, text);
		free(text);
	}
	return env;
}
