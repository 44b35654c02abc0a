/* SPDX-License-Identifier: MIT */
/*
 * Old environments. Their only records are the name of lib/pythonX.Y and two files in it:
 * orig-prefix.txt (the base installation) and no-global-site-packages.txt (there or not).
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "legacy.h"
#include "place.h"
#include "util.h"

/* The X.Y of lib/pythonX.Y; owned. */
static char *find_version(int lib_fd)
{
	int own = openat(lib_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	char *version = NULL;
	if (!dir) {
		cleanup_fd(&own);
		return NULL;
	}
	for (struct dirent *e; !version && (e = readdir(dir));) {
		const char *s = e->d_name;
		if (strncmp(s, "python", 6) == 0 && s[6] && s[6 + strspn(s + 6, "0123456789.")] == '\0')
			version = xstrdup(s + 6);
	}
	closedir(dir);
	return version;
}

void legacy_read(int env_fd, struct legacy *ret)
{
	*ret = (struct legacy){ 0 };
	_cleanup_fd_ int lib = place_open(env_fd, "lib", O_PATH | O_DIRECTORY);
	ret->version = lib < 0 ? NULL : find_version(lib);
	if (!ret->version)
		return;
	_cleanup_free_ char *name = xasprintf("python%s", ret->version);
	_cleanup_fd_ int stdlib = place_open(lib, name, O_PATH | O_DIRECTORY);
	if (stdlib < 0)
		return;
	struct stat st;
	ret->system_site_packages = fstatat(stdlib, "no-global-site-packages.txt", &st,
	    AT_SYMLINK_NOFOLLOW) < 0;
	_cleanup_text_ struct text prefix = { 0 };
	if (place_read(stdlib, "orig-prefix.txt", LIMIT_CFG_BYTES, &prefix, NULL) < 0 || !prefix.data)
		return;
	prefix.data[strcspn(prefix.data, "\r\n")] = '\0';
	_cleanup_free_ char *path = xasprintf("%s/bin/python%s", prefix.data, ret->version);
	ret->interpreter = text_printable(path);
}

void legacy_done(struct legacy *old)
{
	free(old->version);
	free(old->interpreter);
	*old = (struct legacy){ 0 };
}
