/*
 * envd/process_handover.h - processes for the envd that replaces this one, and from the one before.
 * They stay its children: the pid of envd does not change. Loop thread.
 */
#ifndef ENVD_PROCESS_HANDOVER_H
#define ENVD_PROCESS_HANDOVER_H

#include "envd/handover.h"
#include "envd/process.h"

/* Numbers the processes, for the calls that are saved after them. */
void process_save(struct handover_out *out);
uint32_t process_number(const struct process *process);
/* Where INPUT waits: its process, and its place there from 1. 0: nowhere. */
uint32_t process_input_place(const struct input *input, uint32_t *place);

/* What makes an input from bytes that waited; its sender is not known yet. */
typedef struct input *(*process_input_new_fn)(const uint8_t *data, size_t len);
/* Nothing is read or written before process_go_on. -1 with *ERR. */
int process_load(const Handover__Process *in, process_input_new_fn input_new, struct err *err);
struct process *process_by_number(uint32_t number, struct err *err);
struct input *process_input_at(const Handover__Delivery *place, struct err *err);
/* Attach WATCHER where it was; FULL: it waits for process_watcher_ready. */
int process_watch_at(struct process *process, struct watcher *watcher, const uint64_t *at,
                     size_t count, bool full, struct err *err);
/* Collect who ended meanwhile, read and write again. */
void process_go_on(void);

#endif
