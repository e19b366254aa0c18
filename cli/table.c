/* SPDX-License-Identifier: MIT */
/* Tables for people: cells are collected first, then printed in columns that line up. Widths count
 * characters of UTF-8, not bytes, because of signs like the multiplication sign. */
#include "cli.h"

#include <stdarg.h>
#include <stdlib.h>

void table_init(struct table *table, unsigned columns, const char *align)
{
    *table = (struct table){ .columns = columns, .align = align };
}

void table_cell(struct table *table, const char *format, ...)
{
    va_list args;

    if (table->count == table->room) {
        size_t room = table->room ? 2 * table->room : 64;
        char(*cells)[TABLE_CELL_SIZE] = realloc(table->cells, room * sizeof(*cells));

        if (!cells) {
            table->failed = true;
            return;
        }
        table->cells = cells;
        table->room = room;
    }
    va_start(args, format);
    vsnprintf(table->cells[table->count++], TABLE_CELL_SIZE, format, args);
    va_end(args);
}

static int text_width(const char *text)
{
    int width = 0;

    for (; *text; text++)
        width += (*text & 0xc0) != 0x80;
    return width;
}

static int column_width(const struct table *table, unsigned column)
{
    int width = 0;

    for (size_t i = column; i < table->count; i += table->columns) {
        int w = text_width(table->cells[i]);
        width = w > width ? w : width;
    }
    return width;
}

void table_print(const struct table *table, FILE *out, bool color)
{
    if (table->failed) {
        fputs("(out of memory)\n", out);
        return;
    }
    for (size_t i = 0; i < table->count; i++) {
        unsigned column = (unsigned)(i % table->columns);
        bool last = column + 1 == table->columns || i + 1 == table->count;
        int pad = column_width(table, column) - text_width(table->cells[i]);
        bool right = table->align[column] == 'r';

        if (column == 0 && i < table->columns && color)
            fputs("\033[1m", out);
        if (right)
            fprintf(out, "%*s", pad, "");
        fputs(table->cells[i], out);
        if (!right && !last)
            fprintf(out, "%*s", pad, "");
        if (last && i < table->columns && color)
            fputs("\033[0m", out);
        fputs(last ? "\n" : "  ", out);
    }
}

void table_finish(struct table *table)
{
    free(table->cells);
    *table = (struct table){ 0 };
}
