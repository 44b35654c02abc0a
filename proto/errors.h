/* SPDX-License-Identifier: MIT */
/* Errors by name: what stands on the wire, and what each means for venvctl's exit status. */
#ifndef VENVD_ERRORS_H
#define VENVD_ERRORS_H

enum error_code {
	ERROR_NONE,
	ERROR_NO_SUCH_ENVIRONMENT,
	ERROR_ALREADY_EXISTS,
	ERROR_INVALID_NAME,
	ERROR_NO_SUCH_INTERPRETER,
	ERROR_UNSAFE_INTERPRETER,
	ERROR_INTERPRETER_FAILED,
	ERROR_NO_ENSUREPIP,
	ERROR_BUSY,
	ERROR_IN_USE,
	ERROR_PROTECTED,
	ERROR_OVERFLOW,
	ERROR_NOT_IN_TRASH,
	ERROR_UNSUPPORTED,
	ERROR_ROOT_UNAVAILABLE,
	ERROR_NO_SPACE,
	ERROR_CANCELLED,
	ERROR_SHUTTING_DOWN,
	ERROR_FAILED,
	ERROR_INTERFACE_NOT_FOUND,
	ERROR_METHOD_NOT_FOUND,
	ERROR_METHOD_NOT_IMPLEMENTED,
	ERROR_INVALID_PARAMETER,
	ERROR_PERMISSION_DENIED,
	ERROR_EXPECTED_MORE,
	ERROR_UNKNOWN,          /* a name this program does not know: from a newer daemon */
	ERROR_COUNT
};

/* venvctl's exit statuses; `venvctl help exit-codes` prints them. */
enum exit_status {
	EXIT_DONE = 0,
	EXIT_REFUSED = 1,       /* refused or failed */
	EXIT_USAGE = 2,
	EXIT_NOT_FOUND = 3,
	EXIT_EXISTS = 4,
	EXIT_IN_USE = 5,
	EXIT_UNREACHABLE = 6,
	EXIT_PERMISSION = 7,
	EXIT_TIMED_OUT = 8,
	EXIT_PARTLY = 9,
	EXIT_RUN_FAILED = 125,
	EXIT_INTERRUPTED = 130
};

const char *error_name(enum error_code);          /* "io.venvd.AlreadyExists" */
enum error_code error_from_name(const char *);    /* ERROR_UNKNOWN if it is none of ours */
enum exit_status error_exit_status(enum error_code);
#endif
