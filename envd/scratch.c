#include "envd/scratch.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

static atomic_int large_free = SCRATCH_LARGE_MAX;

static size_t choose_size(void)
{
    if (atomic_fetch_sub(&large_free, 1) > 0)
        return SCRATCH_LARGE_BYTES;
    atomic_fetch_add(&large_free, 1);
    return SCRATCH_SMALL_BYTES;
}

void scratch_get(struct scratch *scratch)
{
    if (scratch->data != NULL)
        return;
    scratch->size = choose_size();
    scratch->data =
        mmap(NULL, scratch->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (scratch->data == MAP_FAILED)
        abort();
}

void scratch_put(struct scratch *scratch)
{
    if (scratch->data == NULL)
        return;
    munmap(scratch->data, scratch->size);
    if (scratch->size == SCRATCH_LARGE_BYTES)
        atomic_fetch_add(&large_free, 1);
    *scratch = (struct scratch){0};
}
