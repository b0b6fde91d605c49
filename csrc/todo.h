/* A backend's list of the slots with something to do in the next turn, in the order they were put there.
 *
 * Invariants: a slot is in the list while slot->todo is not 0; the list is doubly linked by index, so that one
 * that ends leaves in constant time, and nothing is allocated, so that nothing can fail.
 */
#ifndef MUX_TODO_H
#define MUX_TODO_H

#include "slots.h"

typedef struct mux_todo {
    mux_slots *slots;
    uint32_t first, last, count;
} mux_todo;

void mux_todo_open(mux_todo *todo, mux_slots *slots);
void mux_todo_add(mux_todo *todo, mux_slot *slot, uint8_t what); /* beside what is to be done already */
uint8_t mux_todo_remove(mux_todo *todo, mux_slot *slot);         /* what was to be done; 0: nothing */
mux_slot *mux_todo_first(const mux_todo *todo);                  /* of a list that is not empty */

#endif
