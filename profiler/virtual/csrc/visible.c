/* Which cards CUDA shows a process, in which order: all of them, or those that CUDA_VISIBLE_DEVICES names.
 *
 * An entry is a number, a UUID from "GPU-" on that may be cut short while it stays unique, or the whole UUID
 * of a slice, from "MIG-" on. The first entry that names no card ends the list, and a card named twice
 * empties it (CUDA Programming Guide, "CUDA Environment Variables"). Where cards are split, a process sees
 * one slice and nothing beside it (MIG User Guide, "CUDA Device Enumeration").
 */
#include "visible.h"
#include "uuid.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static int visible[VGPU_MAX_DEVICES], num_visible;
static pthread_once_t read_once = PTHREAD_ONCE_INIT;

static int find_uuid(const vgpu_state *state, const char *entry, size_t length)
{
    int is_split = (state->quirks & VGPU_QUIRK_MIG) != 0, is_slice = !strncmp(entry, "MIG-", 4), found = -1;
    for (int i = 0; i < state->num_devices; i++) {
        char uuid[64];
        vgpu_uuid(&state->devices[i], is_split, is_slice, uuid, sizeof uuid);
        if (strncmp(uuid, entry, length) || (is_slice && (!is_split || uuid[length])))
            continue;
        if (found >= 0)
            return -1;
        found = i;
    }
    return found;
}

static int find_card(const vgpu_state *state, const char *entry, size_t length)
{
    if (length > 4 && (!strncmp(entry, "GPU-", 4) || !strncmp(entry, "MIG-", 4)))
        return find_uuid(state, entry, length);
    char *end;
    long number = strtol(entry, &end, 10);
    return end > entry && number >= 0 && number < state->num_devices ? (int)number : -1;
}

static void read_list(const vgpu_state *state, const char *list)
{
    for (const char *entry = list; *entry; entry += *entry == ',') {
        size_t length = strcspn(entry, ",");
        int card = find_card(state, entry, length);
        if (card < 0)
            return;
        for (int i = 0; i < num_visible; i++)
            if (visible[i] == card) {
                num_visible = 0;
                return;
            }
        visible[num_visible++] = card;
        entry += length;
    }
}

/* Once, when the process first asks, as CUDA does. */
static void read_variable(void)
{
    const vgpu_state *state = vgpu_get();
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    if (list)
        read_list(state, list);
    else
        for (num_visible = 0; num_visible < state->num_devices; num_visible++)
            visible[num_visible] = num_visible;
    if (num_visible > 1 && state->quirks & VGPU_QUIRK_MIG)
        num_visible = 1;
}

int vgpu_num_devices(void)
{
    if (!vgpu_get())
        return 0;
    pthread_once(&read_once, read_variable);
    return num_visible;
}

int vgpu_card_of(int device)
{
    return device >= 0 && device < vgpu_num_devices() ? visible[device] : -1;
}
