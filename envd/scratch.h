/*
 * envd/scratch.h - large buffers for bytes on their way, held only while a worker moves them.
 *
 * Any thread. Pages, not heap: what is given back is the kernel's at once. SCRATCH_LARGE_MAX at a
 * time are large and the others small, so that their sum stays below 4 MiB with 64 workers.
 */
#ifndef ENVD_SCRATCH_H
#define ENVD_SCRATCH_H

#include <stddef.h>

#define SCRATCH_LARGE_BYTES (512 << 10)
#define SCRATCH_SMALL_BYTES (32 << 10)
#define SCRATCH_LARGE_MAX 4

struct scratch { /* zeroed: nothing is held */
    char *data;
    size_t size;
};

/* Get a buffer, unless one is held. Never fails: no memory ends the process, as mem_* does. */
void scratch_get(struct scratch *scratch);
/* Give it back; its content is lost. */
void scratch_put(struct scratch *scratch);

#endif
