#include "envd/watch_node.h"

#include <string.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define FIRST_SLOTS 16

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash ^= value;
    hash *= 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

static uint64_t hash_wd(int wd)
{
    return mix(0, (uint64_t)(unsigned)wd);
}

/* Names are chosen by whoever makes folders: a start of our own keeps the chains short. */
static uint64_t hash_name(const struct watch_node *parent, const char *name)
{
    static uint64_t start; /* any thread may make it, all make it before they need it */
    uint64_t key = __atomic_load_n(&start, __ATOMIC_RELAXED);

    if (key == 0) {
        uint64_t fresh, none = 0;

        hash_random(&fresh, sizeof(fresh));
        fresh |= 1;
        key = __atomic_compare_exchange_n(&start, &none, fresh, false, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED)
                  ? fresh
                  : none;
    }
    key = mix(key, (uint64_t)(uintptr_t)parent);
    for (; *name != '\0'; name++)
        key = mix(key, (unsigned char)*name);
    return key;
}

static void table_grow(struct watch_table *table)
{
    size_t cap = table->cap > 0 ? table->cap * 2 : FIRST_SLOTS;
    struct watch_link **slots = mem_calloc(cap, sizeof(struct watch_link *));

    for (size_t i = 0; i < table->cap; i++) {
        struct watch_link *link = table->slots[i], *next;

        for (; link != NULL; link = next) {
            next = link->next;
            link->next = slots[link->hash & (cap - 1)];
            slots[link->hash & (cap - 1)] = link;
        }
    }
    free(table->slots);
    table->slots = slots;
    table->cap = cap;
}

static void table_add(struct watch_table *table, struct watch_link *link, uint64_t hash)
{
    if (table->count >= table->cap)
        table_grow(table);
    link->hash = hash;
    link->next = table->slots[hash & (table->cap - 1)];
    table->slots[hash & (table->cap - 1)] = link;
    table->count++;
}

static struct watch_link *table_first(const struct watch_table *table, uint64_t hash)
{
    return table->cap > 0 ? table->slots[hash & (table->cap - 1)] : NULL;
}

static void table_remove(struct watch_table *table, struct watch_link *link)
{
    struct watch_link **at = &table->slots[link->hash & (table->cap - 1)];

    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    table->count--;
}

void watch_index_init(struct watch_index *index, void (*unused)(struct watch_index *index, int wd))
{
    *index = (struct watch_index){.unused = unused};
}

void watch_index_clear(struct watch_index *index)
{
    watch_index_reap(index);
    free(index->inodes.slots);
    free(index->names.slots);
    watch_index_init(index, index->unused);
}

struct watch_inode *watch_inode_find(const struct watch_index *index, int wd)
{
    struct watch_link *link = table_first(&index->inodes, hash_wd(wd));

    for (; link != NULL; link = link->next) {
        struct watch_inode *inode = container_of(link, struct watch_inode, link);
        if (inode->wd == wd)
            return inode;
    }
    return NULL;
}

struct watch_node *watch_node_child(const struct watch_index *index,
                                    const struct watch_node *parent, const char *name)
{
    uint64_t hash = hash_name(parent, name);
    struct watch_link *link = table_first(&index->names, hash);

    for (; link != NULL; link = link->next) {
        struct watch_node *node = container_of(link, struct watch_node, link);
        if (link->hash == hash && node->parent == parent && str_eq(node->name, name))
            return node;
    }
    return NULL;
}

/* ---- Adding and moving ---- */

static void attach_inode(struct watch_index *index, struct watch_node *node, int wd)
{
    struct watch_inode *inode = watch_inode_find(index, wd);

    if (inode == NULL) {
        inode = mem_zalloc(sizeof(*inode));
        inode->wd = wd;
        table_add(&index->inodes, &inode->link, hash_wd(wd));
    }
    node->inode = inode;
    node->next_here = inode->nodes;
    node->prev_here = &inode->nodes;
    if (inode->nodes != NULL)
        inode->nodes->prev_here = &node->next_here;
    inode->nodes = node;
}

static void attach_parent(struct watch_index *index, struct watch_node *node,
                          struct watch_node *parent, const char *name)
{
    node->parent = parent;
    node->name = mem_strdup(name);
    node->next = parent->children;
    node->prev = NULL;
    if (parent->children != NULL)
        parent->children->prev = node;
    parent->children = node;
    table_add(&index->names, &node->link, hash_name(parent, name));
}

static void detach_parent(struct watch_index *index, struct watch_node *node)
{
    if (node->parent == NULL)
        return;
    table_remove(&index->names, &node->link);
    if (node->prev != NULL)
        node->prev->next = node->next;
    else
        node->parent->children = node->next;
    if (node->next != NULL)
        node->next->prev = node->prev;
    node->parent = node->next = node->prev = NULL;
    free(steal_ptr(&node->name));
}

struct watch_node *watch_node_add(struct watch_index *index, struct watch *watch,
                                  struct watch_node *parent, const char *name, int wd)
{
    struct watch_node *node = mem_zalloc(sizeof(*node));

    node->watch = watch;
    attach_inode(index, node, wd);
    if (parent != NULL)
        attach_parent(index, node, parent, name);
    return node;
}

void watch_node_move(struct watch_index *index, struct watch_node *node, struct watch_node *parent,
                     const char *name)
{
    detach_parent(index, node);
    attach_parent(index, node, parent, name);
}

bool watch_node_is_below(const struct watch_node *node, const struct watch_node *above)
{
    while (node != NULL && node != above)
        node = node->parent;
    return node != NULL;
}

/* ---- Dropping ---- */

static void told_unlink(struct watch_index *index, struct watch_told *told)
{
    if (told->prev != NULL)
        told->prev->next = told->next;
    else
        index->told_first = told->next;
    if (told->next != NULL)
        told->next->prev = told->prev;
    else
        index->told_last = told->prev;
}

static void told_free(struct watch_index *index, struct watch_told *told)
{
    size_t at = 0;
    void *name;

    while (map_next(&told->names, &at, &name))
        free(name);
    map_clear(&told->names);
    told_unlink(index, told);
    told->node->told = NULL;
    free(told);
}

static void detach_inode(struct watch_index *index, struct watch_node *node)
{
    struct watch_inode *inode = node->inode;

    *node->prev_here = node->next_here;
    if (node->next_here != NULL)
        node->next_here->prev_here = node->prev_here;
    node->inode = NULL;
    if (inode->nodes != NULL)
        return;
    table_remove(&index->inodes, &inode->link);
    index->unused(index, inode->wd);
    free(inode);
}

/* NODE, which has nothing below it. */
static void drop_leaf(struct watch_index *index, struct watch_node *node)
{
    if (node->told != NULL)
        told_free(index, node->told);
    detach_parent(index, node);
    detach_inode(index, node);
    node->dead = true;
    node->next = index->dead;
    index->dead = node;
}

void watch_node_drop(struct watch_index *index, struct watch_node *node)
{
    struct watch_node *at = node;

    while (at != node || node->children != NULL) {
        struct watch_node *parent;

        while (at->children != NULL)
            at = at->children;
        parent = at->parent;
        drop_leaf(index, at);
        at = parent;
    }
    drop_leaf(index, node);
}

void watch_index_reap(struct watch_index *index)
{
    while (index->dead != NULL) {
        struct watch_node *node = index->dead;
        index->dead = node->next;
        free(node);
    }
}

/* ---- Paths ---- */

int watch_node_path(const struct watch_node *node, struct buf *out)
{
    size_t size = 0;
    char *end;

    for (const struct watch_node *at = node; at->parent != NULL; at = at->parent)
        size += strlen(at->name) + 1;
    if (size == 0)
        return 0;
    end = buf_reserve(out, size - 1);
    if (end == NULL)
        return -1;
    end += size - 1;
    for (const struct watch_node *at = node; at->parent != NULL; at = at->parent) {
        size_t len = strlen(at->name);

        end -= len;
        memcpy(end, at->name, len);
        if (at->parent->parent != NULL)
            *--end = '/';
    }
    buf_commit(out, size - 1);
    return 0;
}

/* ---- What has been told ---- */

static void told_append(struct watch_index *index, struct watch_told *told)
{
    told->until = UINT64_MAX;
    told->next = NULL;
    told->prev = index->told_last;
    if (told->prev != NULL)
        told->prev->next = told;
    else
        index->told_first = told;
    index->told_last = told;
}

/* The notes of NODE, last in the list like all those of the walk that is under way. */
static struct watch_told *told_of(struct watch_index *index, struct watch_node *node)
{
    struct watch_told *told = node->told;

    if (told == NULL) {
        told = node->told = mem_zalloc(sizeof(*told));
        told->node = node;
        map_init(&told->names);
        told_append(index, told);
    } else if (told->until != UINT64_MAX) {
        told_unlink(index, told);
        told_append(index, told);
    }
    return told;
}

bool watch_told_add(struct watch_index *index, struct watch_node *node, const char *name)
{
    struct watch_told *told = told_of(index, node);
    char *copy;

    if (map_get(&told->names, name) != NULL)
        return false;
    copy = mem_strdup(name);
    map_put(&told->names, copy, copy);
    return true;
}

bool watch_told_take(struct watch_index *index, struct watch_node *node, const char *name)
{
    char *copy;

    (void)index;
    if (node->told == NULL)
        return false;
    copy = map_remove(&node->told->names, name);
    free(copy);
    return copy != NULL;
}

void watch_told_mark(struct watch_index *index, uint64_t until)
{
    struct watch_told *told = index->told_last;

    for (; told != NULL && told->until == UINT64_MAX; told = told->prev)
        told->until = until;
}

void watch_told_expire(struct watch_index *index, uint64_t done)
{
    while (index->told_first != NULL && index->told_first->until <= done)
        told_free(index, index->told_first);
}
