/*
 * envd/trim.h - give memory back while nothing happens. Loop thread.
 *
 * Every sandbox has an envd that waits most of its life. What was mapped to start, and to answer
 * the last requests, is worth less there than to the sandbox's own processes.
 */
#ifndef SANDPIT_ENVD_TRIM_H
#define SANDPIT_ENVD_TRIM_H

/* Once, before any thread: few heaps for our threads, so that there is little to give back. */
void trim_init(void);

/*
 * Free heap pages, and our own program's pages that nobody has changed: they are in the page cache
 * still, so that one needed again costs a fault and no read. A debugger's breakpoints are changes
 * of such pages and get lost: with one attached, the program's pages stay.
 */
void trim_memory(void);

#endif
