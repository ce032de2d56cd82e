/*
 * server/model/team.h - E2B's word for a namespace, and the UUID that stands for it.
 */
#ifndef SANDPIT_MODEL_TEAM_H
#define SANDPIT_MODEL_TEAM_H

#include "server/base/uuid5.h"

/* Always the same for the same namespace, on every server. */
void team_id(const char *namespace_, char out[UUID_SIZE]);

#endif
