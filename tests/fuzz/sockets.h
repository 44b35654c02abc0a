/* SPDX-License-Identifier: MIT */
/*
 * Sockets in memory, for the house: what its rooms and libevent ask of the kernel about connected Unix stream sockets, and
 * epoll, is answered here, in this process. Nothing waits, nothing depends on the machine, and it costs a tenth.
 */
#ifndef VENVD_FUZZ_SOCKETS_H
#define VENVD_FUZZ_SOCKETS_H

/* Before an input; asserts that the one before has left no descriptor open. */
void sockets_begin(void);
#endif
