#include "envd/user.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define PASSWD "/etc/passwd"
#define GROUP "/etc/group"
#define FIELDS_MAX 8

struct passwd_row {
    const char *name;
    const char *home;
    uid_t uid;
    gid_t gid;
};

struct group_row {
    const char *name;
    char *members; /* comma-separated */
    gid_t gid;
};

struct stamp { /* tells whether a file is still the one that was read */
    bool there;
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
    struct timespec ctime;
};

struct user_db {
    char *passwd_text; /* the rows point into these */
    char *group_text;
    struct passwd_row *users;
    size_t user_count;
    struct group_row *groups;
    size_t group_count;
    struct stamp passwd_stamp;
    struct stamp group_stamp;
    unsigned refs; /* atomic */
};

static pthread_mutex_t current_lock = PTHREAD_MUTEX_INITIALIZER;
static struct user_db *current; /* guarded by current_lock */

/* Cut LINE at its colons. Returns the number of fields, at most MAX. */
static size_t split(char *line, char **fields, size_t max)
{
    size_t count = 0;

    while (count < max) {
        char *colon = strchr(line, ':');

        fields[count++] = line;
        if (colon == NULL)
            break;
        *colon = '\0';
        line = colon + 1;
    }
    return count;
}

/* An id as passwd and group hold it; (uint32_t)-1 means "no change" to the kernel. */
static bool parse_id(const char *s, uint32_t *out)
{
    struct err err;
    uint64_t value;

    if (str_to_u64(s, strlen(s), 0, UINT32_MAX - 1, "id", &value, &err) < 0)
        return false;
    *out = (uint32_t)value;
    return true;
}

static void add_user(struct user_db *db, char *line)
{
    char *fields[FIELDS_MAX];
    struct passwd_row row;

    if (split(line, fields, 7) != 7 || fields[0][0] == '\0' ||
        strlen(fields[0]) >= USER_NAME_SIZE || strlen(fields[5]) >= USER_HOME_SIZE)
        return;
    if (!parse_id(fields[2], &row.uid) || !parse_id(fields[3], &row.gid))
        return;
    row.name = fields[0];
    row.home = fields[5];
    if ((db->user_count & (db->user_count + 1)) == 0) /* full at 2^n - 1 */
        db->users = mem_realloc_array(db->users, 2 * db->user_count + 2, sizeof(row));
    db->users[db->user_count++] = row;
}

static void add_group(struct user_db *db, char *line)
{
    char *fields[FIELDS_MAX];
    struct group_row row;

    if (split(line, fields, 4) != 4 || fields[0][0] == '\0' || !parse_id(fields[2], &row.gid))
        return;
    row.name = fields[0];
    row.members = fields[3];
    if ((db->group_count & (db->group_count + 1)) == 0)
        db->groups = mem_realloc_array(db->groups, 2 * db->group_count + 2, sizeof(row));
    db->groups[db->group_count++] = row;
}

/* Call ADD for each line of TEXT, without its newline. A NUL inside ends the text. */
static void each_line(struct user_db *db, char *text, void (*add)(struct user_db *, char *))
{
    while (text != NULL && *text != '\0') {
        char *end = strchr(text, '\n');

        if (end != NULL)
            *end++ = '\0';
        if (*text != '#')
            add(db, text);
        text = end;
    }
}

/* Takes both texts. */
static struct user_db *db_new(char *passwd, char *group)
{
    struct user_db *db = mem_zalloc(sizeof(*db));

    db->refs = 1;
    db->passwd_text = passwd;
    db->group_text = group;
    each_line(db, passwd, add_user);
    each_line(db, group, add_group);
    return db;
}

struct user_db *user_db_parse(const char *passwd, size_t passwd_len, const char *group,
                              size_t group_len)
{
    return db_new(mem_strndup(passwd, passwd_len), mem_strndup(group, group_len));
}

void user_db_unref(struct user_db *db)
{
    if (db == NULL || __atomic_sub_fetch(&db->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    free(db->users);
    free(db->groups);
    free(db->passwd_text);
    free(db->group_text);
    free(db);
}

static void stamp_take(const char *path, struct stamp *out)
{
    struct stat st;

    memset(out, 0, sizeof(*out));
    if (stat(path, &st) < 0)
        return;
    out->there = true;
    out->dev = st.st_dev;
    out->ino = st.st_ino;
    out->size = st.st_size;
    out->mtime = st.st_mtim;
    out->ctime = st.st_ctim;
}

static bool stamp_equal(const struct stamp *a, const struct stamp *b)
{
    return a->there == b->there && a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec &&
           a->ctime.tv_sec == b->ctime.tv_sec && a->ctime.tv_nsec == b->ctime.tv_nsec;
}

/* The text of PATH, "" when it cannot be read. The sandbox may have put anything there. */
static char *read_text(const char *path)
{
    struct stat st;
    struct err err;
    char *text;

    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) ||
        file_read(AT_FDCWD, path, USER_FILE_MAX_BYTES, &text, NULL, &err) < 0)
        return mem_strdup("");
    return text;
}

struct user_db *user_db_get(void)
{
    struct stamp passwd, group;
    struct user_db *db;

    stamp_take(PASSWD, &passwd);
    stamp_take(GROUP, &group);
    pthread_mutex_lock(&current_lock);
    if (current == NULL || !stamp_equal(&current->passwd_stamp, &passwd) ||
        !stamp_equal(&current->group_stamp, &group)) {
        user_db_unref(current);
        current = db_new(read_text(PASSWD), read_text(GROUP));
        current->passwd_stamp = passwd;
        current->group_stamp = group;
    }
    db = current;
    __atomic_add_fetch(&db->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&current_lock);
    return db;
}

static bool is_member(const char *members, const char *name)
{
    size_t len = strlen(name);

    while (*members != '\0') {
        size_t word = strcspn(members, ",");

        if (word == len && memcmp(members, name, len) == 0)
            return true;
        members += word + (members[word] == ',');
    }
    return false;
}

/* An image without /etc/passwd still has its root. */
static const struct user builtin_root = {.name = "root", .home = "/root", .group_count = 1};

static void collect_groups(const struct user_db *db, struct user *user)
{
    user->groups[0] = user->gid;
    user->group_count = 1;
    for (size_t i = 0; i < db->group_count && user->group_count < USER_GROUPS_MAX; i++) {
        if (db->groups[i].gid != user->gid && is_member(db->groups[i].members, user->name))
            user->groups[user->group_count++] = db->groups[i].gid;
    }
}

int user_db_find(const struct user_db *db, const char *name, struct user *out)
{
    for (size_t i = 0; i < db->user_count; i++) {
        const struct passwd_row *row = &db->users[i];

        if (!str_eq(row->name, name))
            continue;
        memset(out, 0, sizeof(*out));
        str_copy(out->name, sizeof(out->name), row->name, strlen(row->name));
        str_copy(out->home, sizeof(out->home), row->home, strlen(row->home));
        out->uid = row->uid;
        out->gid = row->gid;
        collect_groups(db, out);
        return 0;
    }
    if (!str_eq(name, "root"))
        return -1;
    *out = builtin_root;
    return 0;
}

const char *user_db_user_name(const struct user_db *db, uid_t uid)
{
    for (size_t i = 0; i < db->user_count; i++) {
        if (db->users[i].uid == uid)
            return db->users[i].name;
    }
    return NULL;
}

const char *user_db_group_name(const struct user_db *db, gid_t gid)
{
    for (size_t i = 0; i < db->group_count; i++) {
        if (db->groups[i].gid == gid)
            return db->groups[i].name;
    }
    return NULL;
}

int user_find(const char *name, struct user *out)
{
    _cleanup_user_db_ struct user_db *db = user_db_get();

    return user_db_find(db, name, out);
}
