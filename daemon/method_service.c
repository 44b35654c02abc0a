/* SPDX-License-Identifier: MIT */
/* The daemon about itself: org.varlink.service, Status, Shutdown. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "idl.h"
#include "index.h"
#include "job.h"
#include "method.h"
#include "pool.h"
#include "server.h"

void method_get_info(struct venvd *v, struct request *r)
{
	(void)v;
	request_reply(r, json_pack("{s:s,s:s,s:s,s:s,s:[s,s]}", "vendor", "venvd", "product", "venvd",
	    "version", VENVD_VERSION, "url", "", "interfaces", "io.venvd", "org.varlink.service"));
}

void method_get_interface_description(struct venvd *v, struct request *r)
{
	(void)v;
	const char *interface = request_string(r, "interface");
	const char *text = strcmp(interface, "io.venvd") == 0 ? idl_text_io_venvd :
	    strcmp(interface, "org.varlink.service") == 0 ? idl_text_org_varlink_service : NULL;
	if (text == NULL)
		request_error(r, ERROR_INTERFACE_NOT_FOUND, json_pack("{s:s}", "interface", interface));
	else
		request_reply(r, json_pack("{s:s}", "description", text));
}

/* Resident pages are the second number of statm. */
static json_int_t status_memory(void)
{
	_cleanup_fd_ int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	_cleanup_text_ struct text text = { 0 };
	long long pages = 0;
	if (fd >= 0 && fd_read_all(fd, 4096, &text) == 0 && text.len > 0)
		sscanf(text.data, "%*s %lld", &pages);
	return pages * sysconf(_SC_PAGESIZE);
}

/* What stops nobody, and an administrator should know. NULL: nothing. */
static json_t *status_warnings(const struct venvd *v)
{
	if (geteuid() != 0 || strcmp(pool_link_mode(v->pool), "hardlink") != 0)
		return NULL;
	return json_pack("[s]", "environments share files by hard links, and for root nothing is read-only: "
	    "whoever edits an installed file of pip edits that of other environments; 'link_mode = copy' in "
	    "venvd.conf prevents it");
}

void method_status(struct venvd *v, struct request *r)
{
	_cleanup_free_ char *printable = text_printable(v->config.root);
	json_t *root = json_string(v->config.root);     /* none if it is not UTF-8 */
	json_t *counts = json_object();
	for (int state = 0; state < STATE_COUNT; state++)
		json_object_set_new(counts, environment_state_name(state),
		    json_integer((json_int_t)index_count(v->index, state)));
	request_reply(r, json_pack("{s:s,s:i,s:I,s:I,s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:o,s:s,s:o*}",
	    "version", VENVD_VERSION, "pid", (int)getpid(), "startedAt", (json_int_t)v->started_at,
	    "uptime", (json_int_t)(now_us() - v->started_at), "root", root != NULL ? root : json_string(printable),
	    "counts", counts,
	    "connections", (json_int_t)server_connections(v->server),
	    "connectionsMax", (json_int_t)v->config.value[CONFIG_CONNECTIONS],
	    "jobsRunning", (json_int_t)jobs_running(v->jobs),
	    "jobsQueued", (json_int_t)jobs_queued(v->jobs), "memoryBytes", status_memory(), "images", pool_images(v->pool),
	    "linkMode", pool_link_mode(v->pool), "warnings", status_warnings(v)));
}

void method_shutdown(struct venvd *v, struct request *r)
{
	if (request_bool(r, "purge") && !v->config.peek)
		v->purge = true;
	request_reply(r, NULL);
	venvd_stop(v);
}
