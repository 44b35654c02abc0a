/* SPDX-License-Identifier: MIT */
/*
 * The interface descriptions: embedded here, read once into tables, and calls held against them.
 * The reader is a recursive descent over the strict subset that the parsers of systemd, Python,
 * Rust and libvarlink all take (see idl.h), bounded in depth; whatever is outside of it is refused
 * with its line, so that a description which one of them would choke on never gets into a build.
 *
 * A struct idl owns all its types, named or not; fields and methods point at them. A check names
 * declared fields only: an element that does not fit is reported as the array or map that holds it.
 */
#include <stdio.h>
#include <string.h>
#include "bounds.h"
#include "idl.h"
#include "util.h"

#define IDL_DEPTH 8             /* of structs without a name inside each other */

const char idl_text_io_venvd[] =
#include "io.venvd.varlink.inc"
;
const char idl_text_org_varlink_service[] =
#include "org.varlink.service.varlink.inc"
;

enum kind { KIND_BOOL, KIND_INT, KIND_FLOAT, KIND_STRING, KIND_OBJECT, KIND_TYPE };
enum container { CONTAINER_NONE, CONTAINER_ARRAY, CONTAINER_MAP };

struct idl_type;

/* A field of a struct, or a value of an enum (of which only the name counts). */
struct idl_field {
	struct idl_field *next;
	char *name;
	bool nullable;
	enum container container;
	enum kind kind;
	char *type_name;                /* KIND_TYPE, named: */
	const struct idl_type *type;    /* KIND_TYPE; of a named one known when all was read */
	unsigned line;
};

struct idl_type {
	struct idl_type *next;
	char *name;                     /* NULL: without a name */
	bool is_enum;
	struct idl_field *fields;
};

struct idl_method {
	char *name;
	const struct idl_type *input;
	const struct idl_type *output;  /* NULL for an error */
};

struct idl {
	char *name;
	struct idl_type *types;         /* every one, the newest first */
	struct idl_method *methods, *errors;
	size_t method_count, error_count;
};

struct parser {
	const char *text;       /* the whole, for the look at what stands before */
	const char *p;
	unsigned line;
	struct idl *idl;
	char *why;              /* the first complaint, owned */
};

/* --- reading ------------------------------------------------------------------------------- */

static bool refuse(struct parser *ps, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool refuse(struct parser *ps, const char *fmt, ...)
{
	if (ps->why)
		return false;
	char words[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(words, sizeof(words), fmt, ap);
	va_end(ap);
	ps->why = xasprintf("line %u: %s", ps->line, words);
	return false;
}

static void skip_blanks(struct parser *ps)
{
	for (; *ps->p == ' ' || *ps->p == '\t' || *ps->p == '\n'; ps->p++)
		ps->line += *ps->p == '\n';
}

/* Whether a comment may stand here: alone on its line, or right behind a comma. */
static bool comment_fits(const struct parser *ps)
{
	const char *q = ps->p;

	while (q > ps->text && (q[-1] == ' ' || q[-1] == '\t'))
		q--;
	return q == ps->text || q[-1] == '\n' || q[-1] == ',';
}

/* Blanks and comments; called only where all parsers take a comment, so that another place has a
 * '#' where something else was expected. */
static bool skip_comments(struct parser *ps)
{
	for (skip_blanks(ps); *ps->p == '#'; skip_blanks(ps)) {
		if (!comment_fits(ps))
			return refuse(ps, "a comment needs its own line, or a comma before it");
		size_t len = strcspn(ps->p, "\n\r");
		if (ps->p[len] == '\r')
			return refuse(ps, "carriage return");
		ps->p += len;
	}
	return true;
}

static bool expect(struct parser *ps, const char *mark)
{
	skip_blanks(ps);
	size_t len = strlen(mark);
	if (strncmp(ps->p, mark, len) != 0)
		return refuse(ps, "expected '%s'", mark);
	ps->p += len;
	return true;
}

static bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
static bool is_alpha(char c) { return is_upper(c) || (c >= 'a' && c <= 'z'); }
static bool is_alnum(char c) { return is_alpha(c) || (c >= '0' && c <= '9'); }

/* [A-Z][A-Za-z0-9]* */
static char *read_type_name(struct parser *ps)
{
	skip_blanks(ps);
	const char *q = ps->p;
	if (!is_upper(*q)) {
		refuse(ps, "expected a name that begins with a capital letter");
		return NULL;
	}
	while (is_alnum(*q))
		q++;
	char *name = xstrndup(ps->p, (size_t)(q - ps->p));
	ps->p = q;
	return name;
}

/* [A-Za-z](_?[A-Za-z0-9])* */
static char *read_field_name(struct parser *ps)
{
	skip_blanks(ps);
	const char *q = ps->p;
	if (!is_alpha(*q)) {
		refuse(ps, "expected the name of a field or value");
		return NULL;
	}
	while (is_alnum(*q) || (*q == '_' && is_alnum(q[1])))
		q++;
	char *name = xstrndup(ps->p, (size_t)(q - ps->p));
	ps->p = q;
	return name;
}

/* [A-Za-z]([-]*[A-Za-z0-9])*(\.[A-Za-z0-9]([-]*[A-Za-z0-9])*)+ */
static char *read_interface_name(struct parser *ps)
{
	skip_blanks(ps);
	const char *q = ps->p;
	unsigned dots = 0;
	bool fits = is_alpha(*q);
	while (fits) {
		while (is_alnum(*q) || *q == '-')
			q++;
		fits = q[-1] != '-';
		if (*q != '.')
			break;
		dots++;
		q++;
		fits = fits && is_alnum(*q);
	}
	if (!fits || !dots) {
		refuse(ps, "expected the name of an interface");
		return NULL;
	}
	char *name = xstrndup(ps->p, (size_t)(q - ps->p));
	ps->p = q;
	return name;
}

static struct idl_type *type_new(struct idl *idl)
{
	struct idl_type *type = xcalloc(1, sizeof(*type));

	type->next = idl->types;
	idl->types = type;
	return type;
}

static const struct idl_field *field_find(const struct idl_type *type, const char *name)
{
	const struct idl_field *field = type->fields;

	while (field && strcmp(field->name, name) != 0)
		field = field->next;
	return field;
}

static const struct idl_type *read_parentheses(struct parser *, unsigned depth, bool may_be_empty);

static bool read_base_type(struct parser *ps, struct idl_field *field, unsigned depth)
{
	static const char *const words[] = { "bool", "int", "float", "string", "object" };

	if (*ps->p == '(') {
		field->kind = KIND_TYPE;
		field->type = read_parentheses(ps, depth + 1, false);
		return field->type != NULL;
	}
	if (is_upper(*ps->p)) {
		field->kind = KIND_TYPE;
		field->line = ps->line;
		field->type_name = read_type_name(ps);
		return true;
	}
	for (size_t i = 0; i < ARRAY_LENGTH(words); i++) {
		size_t len = strlen(words[i]);
		char after = strncmp(ps->p, words[i], len) == 0 ? ps->p[len] : '_';
		if (!is_alnum(after) && after != '_') {
			field->kind = (enum kind)i;
			ps->p += len;
			return true;
		}
	}
	return refuse(ps, "expected a type");
}

/* ["?"] ["[]" | "[string]"] base */
static bool read_type(struct parser *ps, struct idl_field *field, unsigned depth)
{
	skip_blanks(ps);
	if (*ps->p == '?') {
		field->nullable = true;
		ps->p++;
	}
	if (strncmp(ps->p, "[]", 2) == 0) {
		field->container = CONTAINER_ARRAY;
		ps->p += 2;
	} else if (strncmp(ps->p, "[string]", 8) == 0) {
		field->container = CONTAINER_MAP;
		ps->p += 8;
	}
	if (field->container && (*ps->p == '[' || *ps->p == '?'))
		return refuse(ps, "neither a container nor '?' may stand inside a container");
	return read_base_type(ps, field, depth);
}

/* One field or value at the end of the list that *tail ends. */
static bool read_member(struct parser *ps, struct idl_type *type, struct idl_field **tail,
    unsigned depth)
{
	_cleanup_free_ char *name = read_field_name(ps);

	if (!name)
		return false;
	if (field_find(type, name))
		return refuse(ps, "'%s' is there twice", name);
	struct idl_field *field = *tail = xcalloc(1, sizeof(*field));
	field->name = name;
	name = NULL;
	skip_blanks(ps);
	bool has_type = *ps->p == ':';
	if (field == type->fields)
		type->is_enum = !has_type;
	else if (type->is_enum == has_type)
		return refuse(ps, "expected '%s'", has_type ? "," : ":");
	if (!has_type)
		return true;
	ps->p++;
	return read_type(ps, field, depth);
}

static bool read_members(struct parser *ps, struct idl_type *type, unsigned depth)
{
	for (struct idl_field **tail = &type->fields;; tail = &(*tail)->next) {
		if (!skip_comments(ps) || !read_member(ps, type, tail, depth))
			return false;
		if (*ps->p == ',') {
			ps->p++;
			continue;
		}
		skip_blanks(ps);
		if (*ps->p == ',')
			return refuse(ps, "a blank before a comma");
		return expect(ps, ")");
	}
}

static const struct idl_type *read_parentheses(struct parser *ps, unsigned depth, bool may_be_empty)
{
	struct idl_type *type = type_new(ps->idl);

	if (depth > IDL_DEPTH) {
		refuse(ps, "nested deeper than %d levels", IDL_DEPTH);
		return NULL;
	}
	if (!expect(ps, "("))
		return NULL;
	skip_blanks(ps);
	if (*ps->p == ')') {
		ps->p++;
		if (!may_be_empty)
			refuse(ps, "an empty type");
		return may_be_empty ? type : NULL;
	}
	if (!read_members(ps, type, depth))
		return NULL;
	if (type->is_enum && !type->fields->next) {
		refuse(ps, "an enum of a single value");
		return NULL;
	}
	return type;
}

static const struct idl_type *read_struct(struct parser *ps)
{
	const struct idl_type *type = read_parentheses(ps, 0, true);

	if (type && type->is_enum) {
		refuse(ps, "expected a struct, not an enum");
		return NULL;
	}
	return type;
}

static const struct idl_type *type_find(const struct idl *idl, const char *name)
{
	const struct idl_type *type = idl->types;

	while (type && !(type->name && strcmp(type->name, name) == 0))
		type = type->next;
	return type;
}

static const struct idl_method *find_in(const struct idl_method *list, size_t count,
    const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(list[i].name, name) == 0)
			return &list[i];
	return NULL;
}

/* Types, methods and errors share one name space. */
static bool name_is_taken(const struct idl *idl, const char *name)
{
	return type_find(idl, name) || idl_method(idl, name) ||
	    find_in(idl->errors, idl->error_count, name);
}

static bool read_method(struct parser *ps, char *name, struct idl_method **list, size_t *count)
{
	struct idl *idl = ps->idl;

	*list = xreallocarray(*list, *count + 1, sizeof(**list));
	struct idl_method *method = &(*list)[(*count)++];
	*method = (struct idl_method){ .name = name };
	method->input = read_struct(ps);
	if (!method->input || list == &idl->errors)
		return method->input != NULL;
	if (!expect(ps, "->"))
		return false;
	method->output = read_struct(ps);
	return method->output != NULL;
}

static bool keyword(struct parser *ps, const char *word)
{
	size_t len = strlen(word);

	if (strncmp(ps->p, word, len) != 0 || (ps->p[len] != ' ' && ps->p[len] != '\t'))
		return false;
	ps->p += len;
	return true;
}

static bool read_type_definition(struct parser *ps, char *name)
{
	/* The newest type is the one just read only if it has no types inside: so it is looked for
	 * by what was returned. */
	const struct idl_type *type = read_parentheses(ps, 0, false);

	for (struct idl_type *t = ps->idl->types; type && t; t = t->next)
		if (t == type) {
			t->name = name;
			return true;
		}
	free(name);
	return false;
}

static bool read_definition(struct parser *ps)
{
	struct idl *idl = ps->idl;
	bool is_type = keyword(ps, "type"), is_error = !is_type && keyword(ps, "error");

	if (!is_type && !is_error && !keyword(ps, "method"))
		return refuse(ps, "expected 'type', 'method' or 'error'");
	char *name = read_type_name(ps);
	if (name && name_is_taken(idl, name)) {
		refuse(ps, "'%s' is there twice", name);
		free(name);
		return false;
	}
	if (!name)
		return false;
	if (is_type)
		return read_type_definition(ps, name);
	return is_error ? read_method(ps, name, &idl->errors, &idl->error_count) :
	    read_method(ps, name, &idl->methods, &idl->method_count);
}

static bool resolve_names(struct parser *ps)
{
	for (struct idl_type *type = ps->idl->types; type; type = type->next)
		for (struct idl_field *field = type->fields; field; field = field->next) {
			if (!field->type_name)
				continue;
			field->type = type_find(ps->idl, field->type_name);
			if (field->type)
				continue;
			ps->line = field->line;
			return refuse(ps, "there is no type '%s'", field->type_name);
		}
	return true;
}

static bool read_all(struct parser *ps)
{
	if (!skip_comments(ps))
		return false;
	if (!keyword(ps, "interface"))
		return refuse(ps, "expected 'interface'");
	ps->idl->name = read_interface_name(ps);
	if (!ps->idl->name)
		return false;
	while (skip_comments(ps) && *ps->p) {
		if (ps->p[-1] != '\n')
			return refuse(ps, "expected a definition at the beginning of a line");
		if (!read_definition(ps))
			return false;
	}
	return !ps->why && resolve_names(ps);
}

struct idl *idl_parse(const char *text, char **ret_why)
{
	struct parser ps = { .text = text, .p = text, .line = 1 };

	ps.idl = xcalloc(1, sizeof(*ps.idl));
	if (read_all(&ps))
		return ps.idl;
	idl_free(ps.idl);
	*ret_why = ps.why;
	return NULL;
}

static void type_free(struct idl_type *type)
{
	while (type->fields) {
		struct idl_field *field = type->fields;
		type->fields = field->next;
		free(field->name);
		free(field->type_name);
		free(field);
	}
	free(type->name);
	free(type);
}

void idl_free(struct idl *idl)
{
	if (!idl)
		return;
	while (idl->types) {
		struct idl_type *type = idl->types;
		idl->types = type->next;
		type_free(type);
	}
	for (size_t i = 0; i < idl->method_count; i++)
		free(idl->methods[i].name);
	for (size_t i = 0; i < idl->error_count; i++)
		free(idl->errors[i].name);
	free(idl->methods);
	free(idl->errors);
	free(idl->name);
	free(idl);
}

/* --- what was read ------------------------------------------------------------------------- */

const char *idl_name(const struct idl *idl)
{
	return idl->name;
}

size_t idl_method_count(const struct idl *idl)
{
	return idl->method_count;
}

const struct idl_method *idl_method_at(const struct idl *idl, size_t i)
{
	return &idl->methods[i];
}

const struct idl_method *idl_method(const struct idl *idl, const char *name)
{
	return find_in(idl->methods, idl->method_count, name);
}

const char *idl_method_name(const struct idl_method *method)
{
	return method->name;
}

/* --- checks -------------------------------------------------------------------------------- */

static char *check_struct(const struct idl_type *, const json_t *object, unsigned depth);

/* NULL if value fits, else the owned rest of the path below the field ("" for the field itself). */
static char *check_base(const struct idl_field *field, const json_t *value, unsigned depth)
{
	bool fits = false;

	switch (field->kind) {
	case KIND_BOOL: fits = json_is_boolean(value); break;
	case KIND_INT: fits = json_is_integer(value); break;
	case KIND_FLOAT: fits = json_is_number(value); break;
	case KIND_STRING: fits = json_is_string(value); break;
	case KIND_OBJECT: fits = json_is_object(value); break;
	case KIND_TYPE:
		if (field->type->is_enum)
			fits = json_is_string(value) &&
			    field_find(field->type, json_string_value(value));
		else if (json_is_object(value) && depth < LIMIT_JSON_DEPTH)
			return check_struct(field->type, value, depth + 1);
	}
	return fits ? NULL : xstrdup("");
}

static char *check_field(const struct idl_field *field, const json_t *value, unsigned depth)
{
	char *rest = NULL;

	if (field->container == CONTAINER_ARRAY) {
		if (!json_is_array(value))
			return xstrdup("");
		for (size_t i = 0; !rest && i < json_array_size(value); i++)
			rest = check_base(field, json_array_get(value, i), depth);
		return rest;
	}
	if (field->container == CONTAINER_MAP) {
		if (!json_is_object(value))
			return xstrdup("");
		const char *key;
		json_t *element;
		json_object_foreach((json_t *)value, key, element)
			if (!rest)
				rest = check_base(field, element, depth);
		return rest;
	}
	return check_base(field, value, depth);
}

/* First what is there, in the order it was given, then what is not. */
static char *check_struct(const struct idl_type *type, const json_t *object, unsigned depth)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)object, key, value) {
		const struct idl_field *field = field_find(type, key);
		if (!field)
			return xstrdup(key);
		if (json_is_null(value) && field->nullable)
			continue;
		_cleanup_free_ char *rest = check_field(field, value, depth);
		if (rest)
			return xasprintf(*rest ? "%s.%s" : "%s%s", key, rest);
	}
	for (const struct idl_field *field = type->fields; field; field = field->next)
		if (!field->nullable && !json_object_get(object, field->name))
			return xstrdup(field->name);
	return NULL;
}

char *idl_check_call(const struct idl *idl, const struct idl_method *method,
    const json_t *parameters)
{
	(void)idl;
	return check_struct(method->input, parameters, 0);
}

char *idl_check_reply(const struct idl *idl, const struct idl_method *method,
    const json_t *parameters)
{
	(void)idl;
	return check_struct(method->output, parameters, 0);
}

char *idl_check_error(const struct idl *idl, const char *bare_name, const json_t *parameters)
{
	const struct idl_method *error = find_in(idl->errors, idl->error_count, bare_name);

	return error ? check_struct(error->input, parameters, 0) : xstrdup(bare_name);
}
