/* SPDX-License-Identifier: MIT */
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include "unit.h"
#include "paths.h"

static char *start;

static void absolute_equals(const char *path, const char *expected)
{
	_cleanup_free_ char *got = path_absolute(path);

	assert_string_equal(got, expected);
}

/* As os.path.abspath, but for two slashes in front. */
static void absolute(void **state)
{
	(void)state;
	absolute_equals("/", "/");
	absolute_equals("//", "/");
	absolute_equals("//a", "/a");
	absolute_equals("/a/b", "/a/b");
	absolute_equals("/a/b/", "/a/b");
	absolute_equals("/a//b/./c/.", "/a/b/c");
	absolute_equals("/a/../b", "/b");
	absolute_equals("/../../a/..", "/");
	absolute_equals("/a/...", "/a/...");
	absolute_equals("/.a/..b", "/.a/..b");
	assert_int_equal(chdir("/usr/bin"), 0);
	absolute_equals("x", "/usr/bin/x");
	absolute_equals("", "/usr/bin");
	absolute_equals(".", "/usr/bin");
	absolute_equals("../lib/./y", "/usr/lib/y");
	absolute_equals("../../../..", "/");
	assert_int_equal(chdir("/"), 0);
	absolute_equals("x", "/x");
}

static void root_equals(const char *given, const char *expected, bool expected_builtin)
{
	bool builtin = !expected_builtin;
	const char *why = NULL;
	_cleanup_free_ char *root = path_root(given, &builtin, &why);

	assert_non_null(root);
	assert_string_equal(root, expected);
	assert_int_equal(builtin, expected_builtin);
}

static void roots(void **state)
{
	(void)state;
	assert_int_equal(chdir("/usr"), 0);
	setenv("HOME", "/home/x/", 1);
	setenv("VENVD_ROOT", "/v", 1);
	setenv("WORKON_HOME", "w", 1);
	root_equals("/given/.", "/given", false);
	root_equals("g", "/usr/g", false);
	root_equals(NULL, "/v", false);
	setenv("VENVD_ROOT", "", 1);
	root_equals(NULL, "/usr/w", false);
	unsetenv("WORKON_HOME");
	root_equals(NULL, "/home/x/.virtualenvs", true);
	root_equals("/home/x/y/../.virtualenvs/", "/home/x/.virtualenvs", true);
	unsetenv("VENVD_ROOT");
	root_equals(NULL, "/home/x/.virtualenvs", true);
}

static void home(void **state)
{
	const struct passwd *user = getpwuid(getuid());

	(void)state;
	setenv("HOME", "/somewhere", 1);
	assert_string_equal(path_home(), "/somewhere");
	unsetenv("HOME");
	if (user)
		assert_string_equal(path_home(), user->pw_dir);
	setenv("HOME", "relative", 1);
	if (user)
		assert_string_equal(path_home(), user->pw_dir);
}

static void no_root(void **state)
{
	bool builtin;
	const char *why = NULL;

	(void)state;
	assert_null(path_root("", &builtin, &why));
	assert_non_null(strstr(why, "empty"));
	_cleanup_free_ char *directory = unit_directory();
	assert_int_equal(chdir(directory), 0);
	unit_directory_remove(directory);
	assert_null(path_absolute("x"));
	assert_null(path_root("x", &builtin, &why));
	assert_non_null(strstr(why, "working directory"));
	_cleanup_free_ char *root = path_root("/x", &builtin, &why);
	assert_string_equal(root, "/x");
}

/* A working directory far deeper than PATH_MAX. */
static void deep(void **state)
{
	char name[201] = "";

	(void)state;
	memset(name, 'd', 200);
	_cleanup_free_ char *directory = unit_directory();
	assert_int_equal(chdir(directory), 0);
	for (int i = 0; i < 30; i++) {
		assert_int_equal(mkdir(name, 0700), 0);
		assert_int_equal(chdir(name), 0);
	}
	_cleanup_free_ char *got = path_absolute("x");
	/* glibc gives it whole; a system call that cannot would make it NULL, never cut short. */
	if (got)
		assert_int_equal(strlen(got), strlen(directory) + 30 * 201 + 2);
	for (int i = 0; i < 30; i++) {
		assert_int_equal(chdir(".."), 0);
		assert_int_equal(rmdir(name), 0);
	}
	unit_directory_remove(directory);
}

static int remember(void **state)
{
	(void)state;
	start = getcwd(NULL, 0);
	return start ? 0 : -1;
}

static int go_back(void **state)
{
	(void)state;
	int result = chdir(start);
	free(start);
	return result;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(absolute),
		cmocka_unit_test(roots),
		cmocka_unit_test(home),
		cmocka_unit_test(no_root),
		cmocka_unit_test(deep),
	};
	return cmocka_run_group_tests(tests, remember, go_back);
}
