#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "tests/conformance/conformance.h"

#define PARAMETER_MAX (64 << 10)

/* Another value for NAME (NAME_LEN bytes) in a list of headers. */
static void add_value(CC(Header) * **list, size_t *count, const char *name, size_t name_len,
                      const char *value)
{
    CC(Header) *header = NULL;

    for (size_t i = 0; i < *count; i++) {
        if (mem_is(name, name_len, (*list)[i]->name))
            header = (*list)[i];
    }
    if (header == NULL) {
        header = mem_zalloc(sizeof(*header));
        connectrpc__conformance__v1__header__init(header);
        header->name = mem_strndup(name, name_len);
        *list = mem_realloc_array(*list, *count + 1, sizeof(header));
        (*list)[(*count)++] = header;
    }
    header->value = mem_realloc_array(header->value, header->n_value + 1, sizeof(char *));
    header->value[header->n_value++] = mem_strdup(value);
}

static void add_query(CC(ConformancePayload__ConnectGetInfo) * info, const char *query)
{
    while (*query != '\0') {
        size_t len = strcspn(query, "&"), name_len = strcspn(query, "=&");
        size_t skip = name_len < len ? name_len + 1 : name_len;
        _cleanup_buf_ struct buf value;

        buf_init(&value, PARAMETER_MAX);
        if (url_decode(query + skip, len - skip, true, &value) == 0)
            add_value(&info->query_params, &info->n_query_params, query, name_len, buf_str(&value));
        query += len + (query[len] == '&');
    }
}

CC(ConformancePayload__RequestInfo) * info_of(struct rpc_call *call)
{
    CC(ConformancePayload__RequestInfo) *info = mem_zalloc(sizeof(*info));
    const char *name, *value;
    size_t at = 0;

    connectrpc__conformance__v1__conformance_payload__request_info__init(info);
    while (http_header_next(call->ex, &at, &name, &value))
        add_value(&info->request_headers, &info->n_request_headers, name, strlen(name), value);
    if (rpc_timeout_ms(call) > 0) {
        info->optional_timeout_ms_case = 2;
        info->timeout_ms = rpc_timeout_ms(call);
    }
    if (rpc_is_get(call)) {
        info->connect_get_info = mem_zalloc(sizeof(*info->connect_get_info));
        connectrpc__conformance__v1__conformance_payload__connect_get_info__init(
            info->connect_get_info);
        add_query(info->connect_get_info, http_query(call->ex));
    }
    return info;
}

void info_add(CC(ConformancePayload__RequestInfo) * info, const ProtobufCMessage *message)
{
    info->requests =
        mem_realloc_array(info->requests, info->n_requests + 1, sizeof(*info->requests));
    info->requests[info->n_requests++] = any_of(message);
}
