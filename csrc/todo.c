#include "todo.h"

void mux_todo_open(mux_todo *todo, mux_slots *slots)
{
    todo->slots = slots;
    todo->first = todo->last = MUX_NONE;
    todo->count = 0;
}

void mux_todo_add(mux_todo *todo, mux_slot *slot, uint8_t what)
{
    bool listed = slot->todo;
    slot->todo |= what;
    if (listed)
        return;
    slot->todo_next = MUX_NONE;
    slot->todo_prev = todo->last;
    if (todo->last == MUX_NONE)
        todo->first = slot->index;
    else
        mux_slots_at(todo->slots, todo->last)->todo_next = slot->index;
    todo->last = slot->index;
    todo->count++;
}

uint8_t mux_todo_remove(mux_todo *todo, mux_slot *slot)
{
    uint8_t what = slot->todo;
    if (!what)
        return 0;
    if (slot->todo_prev == MUX_NONE)
        todo->first = slot->todo_next;
    else
        mux_slots_at(todo->slots, slot->todo_prev)->todo_next = slot->todo_next;
    if (slot->todo_next == MUX_NONE)
        todo->last = slot->todo_prev;
    else
        mux_slots_at(todo->slots, slot->todo_next)->todo_prev = slot->todo_prev;
    slot->todo = 0;
    todo->count--;
    return what;
}

mux_slot *mux_todo_first(const mux_todo *todo)
{
    return mux_slots_at(todo->slots, todo->first);
}
