/* SPDX-License-Identifier: MIT */
/*
 * Where interpreters are. Two kinds of directories: those of programs (PATH, /usr/bin, /usr/local/bin, the
 * configuration's, and single files that were added by hand), which are looked at one after the other and
 * only as far as somebody asks; and the installations of pyenv, uv, conda, asdf and mise, which are all
 * read the first time that one is asked for. A directory counts once, by whichever name it is met first.
 *
 * Directories of PATH that are empty or relative are passed over: the directory that somebody happens
 * to stand in (a repository just cloned, say) must not decide what the daemon executes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "bounds.h"
#include "known.h"
#include "paths.h"
#include "place.h"
#include "search.h"
#include "util.h"

#define NAMES_KEPT 64           /* directories whose lists are remembered */
#define SETTLED_US 2000000

static bool is_met(const struct search_list *l, const struct stat *st)
{
	for (size_t i = 0; i < l->count; i++)
		if (!l->dirs[i].file && l->dirs[i].st.st_dev == st->st_dev &&
		    l->dirs[i].st.st_ino == st->st_ino)
			return true;
	return false;
}

/* Takes path. NULL if it is no directory, or was met. */
static struct search_dir *add(struct search_list *l, char *path, const char *source)
{
	struct stat st;
	if (l->count >= LIMIT_INTERPRETERS || stat(path, &st) < 0 || !S_ISDIR(st.st_mode) || is_met(l, &st)) {
		free(path);
		return NULL;
	}
	if ((l->count & (l->count - 1)) == 0)
		l->dirs = xreallocarray(l->dirs, l->count ? 2 * l->count : 1, sizeof(*l->dirs));
	l->dirs[l->count] = (struct search_dir){
		.path = path, .source = source, .st = st,
	};
	return &l->dirs[l->count++];
}

/* --- programs --- */

static void add_file(struct search_list *l, const char *path)
{
	if (l->count >= LIMIT_INTERPRETERS)
		return;
	if ((l->count & (l->count - 1)) == 0)
		l->dirs = xreallocarray(l->dirs, l->count ? 2 * l->count : 1, sizeof(*l->dirs));
	const char *slash = strrchr(path, '/');
	l->dirs[l->count++] = (struct search_dir){
		.path = xstrndup(path, slash - path), .source = "added", .file = xstrdup(path),
	};
}

static void add_behind_path(struct search *s)
{
	add(&s->programs, xstrdup("/usr/bin"), "/usr/bin");
	add(&s->programs, xstrdup("/usr/local/bin"), "/usr/local/bin");
	for (size_t i = 0; s->configured && s->configured[i]; i++) {
		if (s->configured[i][0] != '/')
			continue;
		add(&s->programs, xstrdup(s->configured[i]), "configuration");
		add(&s->programs, xasprintf("%s/bin", s->configured[i]), "configuration");
	}
	size_t count;
	__attribute__((cleanup(known_free_added))) char **added = known_added(&count);
	for (size_t i = 0; i < count; i++)
		add_file(&s->programs, added[i]);
}

/* The next directory of PATH that is one, or everything behind PATH. */
static void add_more(struct search *s)
{
	while (s->rest) {
		const char *path = s->rest;
		size_t n = strcspn(path, ":"), len = n;
		s->rest = path[n] && ++s->looked < LIMIT_INTERPRETERS ? path + n + 1 : NULL;
		while (len > 1 && path[len - 1] == '/')
			len--;
		if (n > 0 && path[0] == '/' && add(&s->programs, xstrndup(path, len), "PATH"))
			break;
	}
	if (!s->rest)
		add_behind_path(s);
}

const struct search_dir *search_programs(struct search *s, size_t number)
{
	while (number >= s->programs.count && s->rest)
		add_more(s);
	return number < s->programs.count ? &s->programs.dirs[number] : NULL;
}

/* --- installations --- */

/* A home's subdirectory, or what a variable of the caller says in its place; owned or NULL. */
static char *below(const struct caller *caller, const char *variable, const char *under, const char *otherwise)
{
	const char *given = caller_variable(caller, variable), *home = path_home();
	if (given && given[0] == '/')
		return xasprintf("%s/%s", given, under);
	return home && otherwise ? xasprintf("%s/%s", home, otherwise) : NULL;
}

char *search_pyenv(const struct caller *caller)
{
	return below(caller, "PYENV_ROOT", "versions", ".pyenv/versions");
}

char *search_uv(const struct caller *caller)
{
	const char *given = caller_variable(caller, "UV_PYTHON_INSTALL_DIR");
	if (given && given[0] == '/')
		return xstrdup(given);
	return below(caller, "XDG_DATA_HOME", "uv/python", ".local/share/uv/python");
}

/* conda says in conda-meta/python-3.12.1-BUILD.json what it has installed. False if conda did not make it. */
static bool read_conda(const char *prefix, struct search_dir *ret)
{
	_cleanup_free_ char *path = xasprintf("%s/conda-meta", prefix);
	DIR *dir = opendir(path);
	if (!dir)
		return false;
	for (struct dirent *e; !ret->guessed && (e = readdir(dir));)
		ret->guessed = strncmp(e->d_name, "python-", 7) == 0 && e->d_name[7] >= '2' &&
		    e->d_name[7] <= '9' && spec_read_installation(e->d_name, &ret->guess);
	closedir(dir);
	return true;
}

/* Takes path: the directory of an installation, in which bin lies. */
static void add_installation(struct search *s, char *path, const char *source)
{
	_cleanup_free_ char *prefix = path;
	const char *slash = strrchr(prefix, '/');
	struct search_dir *dir = add(&s->installed, xasprintf("%s/bin", prefix), source);
	if (!dir)
		return;
	dir->name = xstrdup(slash ? slash + 1 : prefix);
	/* What is named for its version is no conda. */
	dir->guessed = strcmp(source, "conda") != 0 && spec_read_installation(dir->name, &dir->guess);
	if (!dir->guessed && read_conda(prefix, dir))
		dir->source = "conda";
}

static int is_version(const struct dirent *e)
{
	return e->d_name[0] != '.' && (e->d_type == DT_DIR || e->d_type == DT_LNK ||
	    e->d_type == DT_UNKNOWN);
}

/* Real directories before the links to them: an installation is known by its own name. */
static int newest_first(const struct dirent **a, const struct dirent **b)
{
	bool link_a = (*a)->d_type == DT_LNK, link_b = (*b)->d_type == DT_LNK;
	return link_a != link_b ? link_a - link_b : strverscmp((*b)->d_name, (*a)->d_name);
}

/* Takes top, which may be NULL: each directory in it is an installation. */
static void add_installations(struct search *s, char *path, const char *source)
{
	_cleanup_free_ char *top = path;
	struct dirent **entries;
	int n = top ? scandir(top, &entries, is_version, newest_first) : -1;
	for (int i = 0; i < n; i++) {
		if (i < LIMIT_INTERPRETERS)
			add_installation(s, xasprintf("%s/%s", top, entries[i]->d_name), source);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

/* ~/.conda/environments.txt: an environment's directory a line. */
static void add_conda_listed(struct search *s, const char *home)
{
	_cleanup_text_ struct text data = { 0 };
	_cleanup_free_ char *path = xasprintf("%s/.conda/environments.txt", home);
	if (place_read(AT_FDCWD, path, LIMIT_CFG_BYTES, &data, NULL) < 0 || !data.data)
		return;
	for (char *save = NULL, *line = strtok_r(data.data, "\r\n", &save); line;
	    line = strtok_r(NULL, "\r\n", &save))
		if (line[0] == '/')
			add_installation(s, xstrdup(line), "conda");
}

static void add_conda_top(struct search *s, const char *top)
{
	if (access(top, F_OK) < 0)
		return;
	add_installation(s, xstrdup(top), "conda");
	add_installations(s, xasprintf("%s/envs", top), "conda");
}

static void add_conda(struct search *s)
{
	static const char *const names[] = {
		"anaconda3", "miniconda3", "miniforge3", "mambaforge", "micromamba",
	};
	const char *home = path_home(), *active = caller_variable(s->caller, "CONDA_PREFIX");
	const char *const tops[] = { home, "/opt", "" };
	if (active && active[0] == '/')
		add_installation(s, xstrdup(active), "conda");
	for (size_t i = 0; i < ARRAY_LENGTH(tops); i++)
		for (size_t k = 0; tops[i] && k < ARRAY_LENGTH(names); k++) {
			_cleanup_free_ char *top = xasprintf("%s/%s", tops[i], names[k]);
			add_conda_top(s, top);
		}
	add_conda_top(s, "/opt/conda");
	if (home)
		add_conda_listed(s, home);
}

static int best_first(const void *a, const void *b)
{
	const struct search_dir *x = a, *y = b;
	if (x->guessed != y->guessed)
		return y->guessed - x->guessed;
	int r = x->guessed ? spec_rank(&x->guess, &y->guess) : 0;
	if (r == 0)
		r = (strlen(x->path) > strlen(y->path)) - (strlen(x->path) < strlen(y->path));
	return r != 0 ? r : strcmp(x->path, y->path);
}

static void scan(struct search *s)
{
	add_installations(s, search_pyenv(s->caller), "pyenv");
	add_installations(s, search_uv(s->caller), "uv");
	add_conda(s);
	add_installations(s, below(s->caller, "ASDF_DATA_DIR", "installs/python", ".asdf/installs/python"), "asdf");
	char *mise = caller_variable(s->caller, "MISE_DATA_DIR") ?
	    below(s->caller, "MISE_DATA_DIR", "installs/python", NULL) :
	    below(s->caller, "XDG_DATA_HOME", "mise/installs/python", ".local/share/mise/installs/python");
	add_installations(s, mise, "mise");
	if (s->installed.count > 0)
		qsort(s->installed.dirs, s->installed.count, sizeof(*s->installed.dirs), best_first);
	s->scanned = true;
}

const struct search_dir *search_installed(struct search *s, size_t number)
{
	if (!s->scanned)
		scan(s);
	return number < s->installed.count ? &s->installed.dirs[number] : NULL;
}

/* --- */

void search_init(struct search *s, const struct caller *caller, const char *const *configured)
{
	*s = (struct search){ .caller = caller, .configured = configured, .rest = caller->path };
}

static void list_done(struct search_list *l)
{
	for (size_t i = 0; i < l->count; i++) {
		free(l->dirs[i].path);
		free(l->dirs[i].file);
		free(l->dirs[i].name);
	}
	free(l->dirs);
}

void search_done(struct search *s)
{
	list_done(&s->programs);
	list_done(&s->installed);
	*s = (struct search){ 0 };
}

/* --- files --- */

char *search_find(const struct search_dir *dir, const char *name)
{
	char *path = xasprintf("%s/%s", strcmp(dir->path, "/") == 0 ? "" : dir->path, name);
	struct stat st;
	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0)
		return path;
	free(path);
	return NULL;
}

/* What a directory holds that is called like an interpreter. */
struct names {
	dev_t dev;
	ino_t ino;
	struct timespec mtime, ctime;
	char **names;
	size_t count;
};

static bool is_interesting(const char *name)
{
	return strncmp(name, "python", 6) == 0 || strncmp(name, "pypy", 4) == 0 ||
	    strncmp(name, "graalpy", 7) == 0;
}

/* A change in the same tick of the clock as the last one would not show. */
static bool is_settled(const struct timespec *t)
{
	return now_us() - (t->tv_sec * 1000000LL + t->tv_nsec / 1000) > SETTLED_US;
}

static bool is_of(const struct names *n, const struct stat *st)
{
	return n->ino == st->st_ino && n->dev == st->st_dev && n->mtime.tv_sec == st->st_mtim.tv_sec &&
	    n->mtime.tv_nsec == st->st_mtim.tv_nsec && n->ctime.tv_sec == st->st_ctim.tv_sec &&
	    n->ctime.tv_nsec == st->st_ctim.tv_nsec;
}

static void read_names(const char *path, struct names *ret)
{
	DIR *dir = opendir(path);
	struct stat st;
	for (size_t i = 0; i < ret->count; i++)
		free(ret->names[i]);
	*ret = (struct names){ .names = ret->names };
	if (!dir)
		return;
	if (fstat(dirfd(dir), &st) == 0) {
		ret->dev = st.st_dev;
		ret->ino = st.st_ino;
		ret->mtime = st.st_mtim;
		ret->ctime = st.st_ctim;
	}
	for (struct dirent *e; (e = readdir(dir));) {
		if (!is_interesting(e->d_name))
			continue;
		if ((ret->count & (ret->count - 1)) == 0)
			ret->names = xreallocarray(ret->names, ret->count ? 2 * ret->count : 1, sizeof(char *));
		ret->names[ret->count++] = xstrdup(e->d_name);
	}
	closedir(dir);
}

/* NULL if it cannot be said. */
static const struct names *names_of(const struct search_dir *dir)
{
	static struct names kept[NAMES_KEPT];
	static size_t next;
	if (!S_ISDIR(dir->st.st_mode))
		return NULL;
	for (size_t i = 0; i < NAMES_KEPT; i++)
		if (is_of(&kept[i], &dir->st))
			return &kept[i];
	if (!is_settled(&dir->st.st_mtim) || !is_settled(&dir->st.st_ctim))
		return NULL;
	struct names *n = &kept[next];
	next = (next + 1) % NAMES_KEPT;
	read_names(dir->path, n);
	return is_of(n, &dir->st) ? n : NULL;
}

char *search_interpreter(const struct search_dir *dir, const char *name)
{
	const struct names *n = names_of(dir);
	bool there = !n;
	for (size_t i = 0; n && !there && i < n->count; i++)
		there = strcmp(n->names[i], name) == 0;
	return there ? search_find(dir, name) : NULL;
}

char *search_python(const struct search_dir *dir)
{
	const struct spec_version *v = &dir->guess.version;
	const char *base = dir->guessed && strcmp(dir->guess.implementation, "cpython") != 0 ?
	    dir->guess.implementation : "python";
	char *path = NULL;
	if (dir->guessed && v->count > 1) {
		_cleanup_free_ char *name = xasprintf("%s%d.%d", base, v->numbers[0], v->numbers[1]);
		path = search_interpreter(dir, name);
	}
	static const char *const names[] = { "python3", "python", "pypy3", "pypy", "graalpy" };
	for (size_t i = 0; !path && i < ARRAY_LENGTH(names); i++)
		path = search_interpreter(dir, names[i]);
	return path;
}
