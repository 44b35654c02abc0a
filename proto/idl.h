/* SPDX-License-Identifier: MIT */
/*
 * The interface descriptions, embedded at build time, parsed once, and the check of calls against
 * them. Reads the strict common subset that every Varlink parser takes: no `any`, no nested
 * containers, no empty types, named types and anonymous structs, enums of two values or more.
 */
#ifndef VENVD_IDL_H
#define VENVD_IDL_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct idl;             /* one parsed interface */
struct idl_method;

extern const char idl_text_io_venvd[];
extern const char idl_text_org_varlink_service[];

/* NULL with *ret_why set to an owned sentence ("line 12: ...") if text is not in the subset. */
struct idl *idl_parse(const char *text, char **ret_why);
void idl_free(struct idl *);
const char *idl_name(const struct idl *);                       /* "io.venvd" */
size_t idl_method_count(const struct idl *);
const struct idl_method *idl_method_at(const struct idl *, size_t i);
const struct idl_method *idl_method(const struct idl *, const char *name); /* bare name; or NULL */
const char *idl_method_name(const struct idl_method *);

/* NULL if parameters (an object or NULL) fit the method's input; else the owned dotted path of the
 * first one that does not ("caller.umask"): unknown, ill-typed, no value of its enum, or missing. */
char *idl_check_call(const struct idl *, const struct idl_method *, const json_t *parameters);
/* The same for a reply and for an error's parameters: used by tests. */
char *idl_check_reply(const struct idl *, const struct idl_method *, const json_t *parameters);
char *idl_check_error(const struct idl *, const char *bare_name, const json_t *parameters);
#endif
