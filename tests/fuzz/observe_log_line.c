/* A line from a sandbox's log pipe. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "server/observe/log_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum log_level level;
    json_t *line = log_line_parse((const char *)data, size, &level);

    if (line != NULL && (!json_is_string(json_object_get(line, "level")) ||
                         !json_is_string(json_object_get(line, "logger")) ||
                         !json_is_string(json_object_get(line, "message")) || level > LOG_ERROR))
        abort();
    free(json_text(line));
    json_decref(line);
    return 0;
}
