/* What every process holds of the cards, kept in the shared state. Devices are CUDA's numbers, as the process sees them. */
#ifndef PEAKVRAM_ACCOUNTS_H
#define PEAKVRAM_ACCOUNTS_H

#include "state.h"

/* Takes bytes on a device for this process; 0, or -1 if the card is full. Makes the context if need be. */
int vgpu_take(int device, uint64_t bytes);
void vgpu_give(int device, uint64_t bytes);
/* The same of managed memory, which is no card's: it is full only where there is no card. */
int vgpu_take_managed(uint64_t bytes);
void vgpu_give_managed(uint64_t bytes);
/* Remembers that this machine, and not the card, had no memory for what was asked. */
void vgpu_note_host_refusal(void);
/* What the card can still give, the dead taken off. */
uint64_t vgpu_free_bytes(int device);
/* Notes that this process now has a context on the device. -1 if it does not fit. */
int vgpu_enter(int device);
int vgpu_has_context(int device);
/* Frees the slots of processes that have died, as a driver does. Call with the lock held. */
void vgpu_reap(vgpu_state *state);

#endif
