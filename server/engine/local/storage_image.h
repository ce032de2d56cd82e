/*
 * server/engine/local/storage_image.h - a btrfs in a sparse file, by a loop device.
 *
 * Never two loop devices on one file: btrfs would take them for two disks of one file system. The
 * device goes by itself when its last mount goes (LO_FLAGS_AUTOCLEAR); sandboxes that outlive the
 * launcher keep both, and the next launcher finds the device by the file behind it.
 */
#ifndef SANDPIT_ENGINE_LOCAL_STORAGE_IMAGE_H
#define SANDPIT_ENGINE_LOCAL_STORAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"

#define IMAGE_MIN_BYTES ((uint64_t)256 << 20)

/* Can this machine have one? WHY and REMEDY (may be NULL) get a sentence each when not. */
bool image_possible(char *why, size_t why_size, char *remedy, size_t remedy_size);

/*
 * Make the file NAME in the folder STATE (its path: STATE_PATH) with an empty btrfs of BYTES. It
 * has its name only when it is complete. Takes some 100 ms.
 */
int image_make(int state, const char *state_path, const char *name, uint64_t bytes,
               struct err *err);

/*
 * Mount the image at the folder AT of this mount namespace; grow it to BYTES if it is smaller.
 * SCRATCH is a folder for a device node, where /dev has none.
 */
int image_mount(int state, const char *name, const char *at, const char *scratch, uint64_t bytes,
                struct err *err);

#endif
