#include "envd/trim.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/base/mem.h"

#define HEAPS 2 /* the loop's and one that the workers share */

/* From the linker: where the program's own ELF header is mapped. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

void trim_init(void)
{
    mallopt(M_ARENA_MAX, HEAPS);
}

static bool is_traced(void)
{
    static const char field[] = "\nTracerPid:\t";
    _cleanup_close_ int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    char text[1024];
    ssize_t len = fd >= 0 ? read(fd, text, sizeof(text) - 2) : -1;
    const char *at;

    if (len <= 0)
        return false;
    text[len] = text[len + 1] = '\0';
    at = strstr(text, field);
    return at != NULL && at[sizeof(field) - 1] != '0';
}

/* What the program may not write is as in its file. */
static void drop_program(void)
{
    const char *start = (const char *)&__ehdr_start;
    /* By the kernel's word: past the header is outside of the object, to a sanitizer. */
    const ElfW(Phdr) *parts = (const ElfW(Phdr) *)getauxval(AT_PHDR);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t bias = 0;

    for (size_t i = 0; i < __ehdr_start.e_phnum; i++) {
        uintptr_t first, end;

        if (parts[i].p_type != PT_LOAD)
            continue;
        if (parts[i].p_offset == 0)
            bias = (uintptr_t)start - parts[i].p_vaddr;
        first = (bias + parts[i].p_vaddr) & ~(page - 1);
        end = (bias + parts[i].p_vaddr + parts[i].p_memsz + page - 1) & ~(page - 1);
        if ((parts[i].p_flags & PF_W) == 0)
            madvise((void *)first, end - first, MADV_DONTNEED);
    }
}

void trim_memory(void)
{
    malloc_trim(0);
    if (!is_traced())
        drop_program();
}
