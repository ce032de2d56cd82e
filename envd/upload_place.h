/*
 * envd/upload_place.h - what upload.c and upload_place.c share; nobody else includes it.
 */
#ifndef SANDPIT_ENVD_UPLOAD_PLACE_H
#define SANDPIT_ENVD_UPLOAD_PLACE_H

#include "envd/upload.h"

/* ERR_NO_SPACE with the text clients know for a full disk, else ERR_INTERNAL "error WHAT: …". */
int upload_fail(const struct upload *up, const char *what, int errnum, struct err *err);
/* A new hidden name. */
void upload_temp_name(char out[UPLOAD_TEMP_SIZE]);
/* The target itself, emptied, for writing. -1 with errno. */
int upload_open_target(struct upload *up);

/*
 * Remove hidden copies from UP's folder that nobody has written to for an hour. For file systems
 * without unnamed files only: elsewhere a copy has a name for microseconds. Looks once a minute.
 */
void upload_remove_stale(const struct upload *up);

#endif
