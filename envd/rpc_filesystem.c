/* filesystem.Filesystem: Stat, MakeDir, Move, ListDir, Remove. Rules: envd API section 5. */
#include <string.h>

#include "envd/entry_proto.h"
#include "envd/fs.h"
#include "envd/fs_quick.h"
#include "envd/mounts.h"
#include "envd/path.h"
#include "envd/route.h"
#include "envd/rpc.h"
#include "server/base/mem.h"

#define SERVICE "filesystem.Filesystem"

/* The file PATH means for the user of CALL, and that user as owner of what is made. */
static int resolve(struct rpc_call *call, const char *path, char **out, struct fs_owner *owner,
                   struct err *err)
{
    const struct user *user = rpc_user(call, err);

    if (user == NULL)
        return -1;
    *owner = (struct fs_owner){.uid = user->uid, .gid = user->gid};
    return path_expand(path,
                       &(struct path_base){.user = user->name,
                                           .home = user->home,
                                           .workdir = rpc_settings(call)->default_workdir},
                       out, err);
}

/* The entry of PATH as a message, or NULL with *ERR. */
static Filesystem__EntryInfo *describe(const char *path, struct err *err)
{
    _cleanup_user_db_ struct user_db *users = user_db_get();
    struct entry entry;

    if (fs_stat(path, users, &entry, err) < 0)
        return NULL;
    return entry_to_proto(&entry);
}

/* fs_quick.h says why this does not block. */
static int do_stat_quick(struct rpc_call *call, const ProtobufCMessage *request,
                         ProtobufCMessage **response)
{
    const Filesystem__StatRequest *in = (const Filesystem__StatRequest *)request;
    _cleanup_user_db_ struct user_db *users = NULL;
    _cleanup_free_ char *path = NULL;
    Filesystem__StatResponse *out;
    struct fs_owner owner;
    struct entry entry;
    struct err err;

    if (resolve(call, in->path, &path, &owner, &err) < 0)
        return 0; /* a worker says so */
    users = user_db_get();
    if (!fs_stat_quick(path, users, &entry))
        return 0;
    out = mem_zalloc(sizeof(*out));
    filesystem__stat_response__init(out);
    out->entry = entry_to_proto(&entry);
    *response = &out->base;
    return 1;
}

static int do_stat(struct rpc_call *call, const ProtobufCMessage *request,
                   ProtobufCMessage **response, struct err *err)
{
    const Filesystem__StatRequest *in = (const Filesystem__StatRequest *)request;
    _cleanup_free_ char *path = NULL;
    Filesystem__EntryInfo *entry;
    Filesystem__StatResponse *out;
    struct fs_owner owner;

    mounts_refresh();
    if (resolve(call, in->path, &path, &owner, err) < 0 || (entry = describe(path, err)) == NULL)
        return -1;
    out = mem_zalloc(sizeof(*out));
    filesystem__stat_response__init(out);
    out->entry = entry;
    *response = &out->base;
    return 0;
}

static int do_make_dir(struct rpc_call *call, const ProtobufCMessage *request,
                       ProtobufCMessage **response, struct err *err)
{
    const Filesystem__MakeDirRequest *in = (const Filesystem__MakeDirRequest *)request;
    _cleanup_free_ char *path = NULL;
    Filesystem__EntryInfo *entry;
    Filesystem__MakeDirResponse *out;
    struct fs_owner owner;

    if (resolve(call, in->path, &path, &owner, err) < 0 || fs_make_dir(path, &owner, err) < 0 ||
        (entry = describe(path, err)) == NULL)
        return -1;
    out = mem_zalloc(sizeof(*out));
    filesystem__make_dir_response__init(out);
    out->entry = entry;
    *response = &out->base;
    return 0;
}

static int do_move(struct rpc_call *call, const ProtobufCMessage *request,
                   ProtobufCMessage **response, struct err *err)
{
    const Filesystem__MoveRequest *in = (const Filesystem__MoveRequest *)request;
    _cleanup_free_ char *source = NULL, *destination = NULL;
    Filesystem__EntryInfo *entry;
    Filesystem__MoveResponse *out;
    struct fs_owner owner;

    if (resolve(call, in->source, &source, &owner, err) < 0 ||
        resolve(call, in->destination, &destination, &owner, err) < 0 ||
        fs_move(source, destination, &owner, err) < 0 ||
        (entry = describe(destination, err)) == NULL)
        return -1;
    out = mem_zalloc(sizeof(*out));
    filesystem__move_response__init(out);
    out->entry = entry;
    *response = &out->base;
    return 0;
}

static int do_list_dir(struct rpc_call *call, const ProtobufCMessage *request,
                       ProtobufCMessage **response, struct err *err)
{
    const Filesystem__ListDirRequest *in = (const Filesystem__ListDirRequest *)request;
    _cleanup_user_db_ struct user_db *users = NULL;
    _cleanup_fs_list_ struct fs_list list = {0};
    _cleanup_free_ char *path = NULL;
    Filesystem__ListDirResponse *out;
    struct fs_owner owner;

    if (in->depth > 1 && !rpc_may_take_long(call))
        return RPC_AGAIN;
    if (resolve(call, in->path, &path, &owner, err) < 0)
        return -1;
    users = user_db_get();
    if (fs_list(path, in->depth, users, &list, err) < 0)
        return -1;
    out = mem_zalloc(sizeof(*out));
    filesystem__list_dir_response__init(out);
    if (list.count > 0)
        out->entries = mem_calloc(list.count, sizeof(*out->entries));
    for (size_t i = 0; i < list.count; i++)
        out->entries[out->n_entries++] = entry_to_proto(&list.rows[i]);
    *response = &out->base;
    return 0;
}

static int do_remove(struct rpc_call *call, const ProtobufCMessage *request,
                     ProtobufCMessage **response, struct err *err)
{
    const Filesystem__RemoveRequest *in = (const Filesystem__RemoveRequest *)request;
    _cleanup_free_ char *path = NULL;
    Filesystem__RemoveResponse *out;
    struct fs_owner owner;
    bool full = rpc_may_take_long(call);

    if (resolve(call, in->path, &path, &owner, err) < 0 ||
        (full ? fs_remove(path, err) : fs_remove_one(path, &full, err)) < 0)
        return -1;
    if (full && !rpc_may_take_long(call))
        return RPC_AGAIN;
    out = mem_zalloc(sizeof(*out));
    filesystem__remove_response__init(out);
    *response = &out->base;
    return 0;
}

const struct rpc_method rpc_filesystem_stat = {
    .service = SERVICE,
    .name = "Stat",
    .idempotent = true,
    .kind = RPC_WORKER,
    .request = &filesystem__stat_request__descriptor,
    .response = &filesystem__stat_response__descriptor,
    .unary = do_stat,
    .quick = do_stat_quick,
};
const struct rpc_method rpc_filesystem_make_dir = {
    .service = SERVICE,
    .name = "MakeDir",
    .kind = RPC_WORKER,
    .request = &filesystem__make_dir_request__descriptor,
    .response = &filesystem__make_dir_response__descriptor,
    .unary = do_make_dir,
};
const struct rpc_method rpc_filesystem_move = {
    .service = SERVICE,
    .name = "Move",
    .kind = RPC_WORKER,
    .request = &filesystem__move_request__descriptor,
    .response = &filesystem__move_response__descriptor,
    .unary = do_move,
};
const struct rpc_method rpc_filesystem_list_dir = {
    .service = SERVICE,
    .name = "ListDir",
    .idempotent = true,
    .kind = RPC_WORKER,
    .request = &filesystem__list_dir_request__descriptor,
    .response = &filesystem__list_dir_response__descriptor,
    .unary = do_list_dir,
};
const struct rpc_method rpc_filesystem_remove = {
    .service = SERVICE,
    .name = "Remove",
    .kind = RPC_WORKER,
    .request = &filesystem__remove_request__descriptor,
    .response = &filesystem__remove_response__descriptor,
    .unary = do_remove,
};
