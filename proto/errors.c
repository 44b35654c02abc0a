/* SPDX-License-Identifier: MIT */
/*
 * The errors by name. One table: what stands on the wire, and which exit status venvctl gives for
 * it. tests/unit/test_idl.c holds it against the interface descriptions: every error of theirs is
 * here, and nothing else. Owns nothing.
 */
#include <string.h>
#include "errors.h"
#include "util.h"

#define VENVD "io.venvd."
#define SERVICE "org.varlink.service."

static const struct {
	const char *name;
	enum exit_status status;
} errors[ERROR_COUNT] = {
	[ERROR_NONE] = { "", EXIT_DONE },
	[ERROR_NO_SUCH_ENVIRONMENT] = { VENVD "NoSuchEnvironment", EXIT_NOT_FOUND },
	[ERROR_ALREADY_EXISTS] = { VENVD "AlreadyExists", EXIT_EXISTS },
	[ERROR_INVALID_NAME] = { VENVD "InvalidName", EXIT_REFUSED },
	[ERROR_NO_SUCH_INTERPRETER] = { VENVD "NoSuchInterpreter", EXIT_REFUSED },
	[ERROR_UNSAFE_INTERPRETER] = { VENVD "UnsafeInterpreter", EXIT_REFUSED },
	[ERROR_INTERPRETER_FAILED] = { VENVD "InterpreterFailed", EXIT_REFUSED },
	[ERROR_NO_ENSUREPIP] = { VENVD "NoEnsurepip", EXIT_REFUSED },
	[ERROR_BUSY] = { VENVD "Busy", EXIT_IN_USE },
	[ERROR_IN_USE] = { VENVD "InUse", EXIT_IN_USE },
	[ERROR_PROTECTED] = { VENVD "Protected", EXIT_IN_USE },
	[ERROR_OVERFLOW] = { VENVD "Overflow", EXIT_REFUSED },
	[ERROR_NOT_IN_TRASH] = { VENVD "NotInTrash", EXIT_NOT_FOUND },
	[ERROR_UNSUPPORTED] = { VENVD "Unsupported", EXIT_REFUSED },
	[ERROR_ROOT_UNAVAILABLE] = { VENVD "RootUnavailable", EXIT_REFUSED },
	[ERROR_NO_SPACE] = { VENVD "NoSpace", EXIT_REFUSED },
	[ERROR_CANCELLED] = { VENVD "Cancelled", EXIT_INTERRUPTED },
	[ERROR_SHUTTING_DOWN] = { VENVD "ShuttingDown", EXIT_UNREACHABLE },
	[ERROR_FAILED] = { VENVD "Failed", EXIT_REFUSED },
	[ERROR_INTERFACE_NOT_FOUND] = { SERVICE "InterfaceNotFound", EXIT_REFUSED },
	[ERROR_METHOD_NOT_FOUND] = { SERVICE "MethodNotFound", EXIT_REFUSED },
	[ERROR_METHOD_NOT_IMPLEMENTED] = { SERVICE "MethodNotImplemented", EXIT_REFUSED },
	[ERROR_INVALID_PARAMETER] = { SERVICE "InvalidParameter", EXIT_REFUSED },
	[ERROR_PERMISSION_DENIED] = { SERVICE "PermissionDenied", EXIT_PERMISSION },
	[ERROR_EXPECTED_MORE] = { SERVICE "ExpectedMore", EXIT_REFUSED },
	[ERROR_UNKNOWN] = { "", EXIT_REFUSED },
};

const char *error_name(enum error_code code)
{
	return errors[code].name;
}

enum error_code error_from_name(const char *name)
{
	if (!name)
		return ERROR_NONE;
	for (size_t i = ERROR_NONE + 1; i < ERROR_UNKNOWN; i++)
		if (strcmp(errors[i].name, name) == 0)
			return (enum error_code)i;
	return ERROR_UNKNOWN;
}

enum exit_status error_exit_status(enum error_code code)
{
	return errors[code].status;
}
