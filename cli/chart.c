/* SPDX-License-Identifier: MIT */
/* Pieces of a self-contained HTML page with charts as inline SVG: no script, no font, nothing
 * fetched. Colours are CSS variables, so that the page follows the reader's light or dark setting.
 * */
#include "bench.h"

#include <math.h>
#include <string.h>

enum {
    WIDTH = 860,
    LABEL_WIDTH = 150,
    VALUE_WIDTH = 190,
    BAR_HEIGHT = 18,
    ROW_HEIGHT = 30,
    LINES_HEIGHT = 260,
    COLORS = 8,
};

void chart_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '"': fputs("&quot;", out); break;
        default: fputc(*text, out);
        }
    }
}

void chart_number(char *ret, size_t size, double value)
{
    static const struct {
        double unit;
        const char *sign;
    } scales[] = { { 1e9, " G" }, { 1e6, " M" }, { 1e3, " k" }, { 1, "" } };

    if (!isfinite(value)) {
        snprintf(ret, size, "-");
        return;
    }
    for (size_t i = 0; i < sizeof(scales) / sizeof(scales[0]); i++) {
        double scaled = value / scales[i].unit;

        if (fabs(scaled) < 1 && i + 1 < sizeof(scales) / sizeof(scales[0]))
            continue;
        snprintf(ret, size, "%.*f%s",
                 fabs(scaled) < 10    ? 2
                 : fabs(scaled) < 100 ? 1
                                      : 0,
                 scaled, scales[i].sign);
        return;
    }
}

void chart_page_begin(FILE *out, const char *title)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>",
          out);
    chart_text(out, title);
    fputs(
        "</title>\n<style>\n"
        ":root { color-scheme: light dark; --page: #ffffff; --ink: #1c2024; --soft: #60656c;\n"
        "  --line: #d9dce0; --c0: #2f6fd0; --c1: #c2571a; --c2: #2c8a4b; --c3: #8b4fc0;\n"
        "  --c4: #b5305f; --c5: #1f8a94; --c6: #8a7414; --c7: #5b6470; }\n"
        "@media (prefers-color-scheme: dark) {\n"
        "  :root { --page: #16181b; --ink: #e6e8eb; --soft: #9ba1a9; --line: #34383e;\n"
        "    --c0: #6ea5f5; --c1: #f0935a; --c2: #62c284; --c3: #bb8cf0; --c4: #ee7aa2;\n"
        "    --c5: #5cc4cf; --c6: #cdb94e; --c7: #a4adb8; }\n"
        "}\n"
        "body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; background: var(--page);\n"
        "  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }\n"
        "h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }\n"
        "table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;\n"
        "  font-size: 14px; margin-top: .8rem; }\n"
        "th, td { text-align: right; padding: .3rem .5rem; border-bottom: 1px solid var(--line);\n"
        "  white-space: nowrap; }\n"
        "th:first-child, td:first-child { text-align: left; }\n"
        "th { color: var(--soft); font-weight: 600; }\n"
        ".wide { overflow-x: auto; } .soft { color: var(--soft); }\n"
        "svg { width: 100%; height: auto; display: block; }\n"
        "svg text { fill: var(--ink); font-size: 13px; } svg .soft { fill: var(--soft); }\n"
        ".grid { stroke: var(--line); } .whisker { stroke: var(--ink); stroke-width: 1.5; }\n",
        out);
    for (unsigned i = 0; i < COLORS; i++)
        fprintf(out, ".f%u { fill: var(--c%u); } .s%u { stroke: var(--c%u); fill: none; }\n", i, i,
                i, i);
    fputs("</style>\n</head>\n<body>\n<h1>", out);
    chart_text(out, title);
    fputs("</h1>\n", out);
}

void chart_page_end(FILE *out)
{
    fputs("</body>\n</html>\n", out);
}

static void begin_figure(FILE *out, const char *title, const char *unit, unsigned height)
{
    fputs("<h2>", out);
    chart_text(out, title);
    fputs(" <span class=\"soft\">", out);
    chart_text(out, unit);
    fprintf(out, "</span></h2>\n<svg viewBox=\"0 0 %d %u\" role=\"img\" aria-label=\"", WIDTH,
            height);
    chart_text(out, title);
    fputs("\">\n", out);
}

void chart_bars(FILE *out, const char *title, const char *unit, const struct chart_bar *bars,
                unsigned count)
{
    double most = 0, scale;

    for (unsigned i = 0; i < count; i++)
        most = bars[i].value.high > most ? bars[i].value.high : most;
    scale = most > 0 ? (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / most : 0;
    begin_figure(out, title, unit, count * ROW_HEIGHT + 8);
    for (unsigned i = 0; i < count; i++) {
        const struct chart_bar *bar = &bars[i];
        double top = i * ROW_HEIGHT + 6, middle = top + BAR_HEIGHT / 2.0;
        double low = LABEL_WIDTH + bar->value.low * scale;
        double high = LABEL_WIDTH + bar->value.high * scale;
        char number[32];

        chart_number(number, sizeof(number), bar->value.middle);
        fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LABEL_WIDTH - 8, middle + 5);
        chart_text(out, bar->label);
        fprintf(out,
                "</text>\n<rect class=\"f%u\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"",
                bar->series % COLORS, LABEL_WIDTH, top, bar->value.middle * scale, BAR_HEIGHT);
        fprintf(out, " rx=\"2\"/>\n<path class=\"whisker\" d=\"M%.1f %.1fH%.1f\"/>\n", low, middle,
                high);
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\">%s <tspan class=\"soft\">", high + 8, middle + 5,
                number);
        chart_text(out, bar->note ? bar->note : "");
        fputs("</tspan></text>\n", out);
    }
    fputs("</svg>\n", out);
}

/* A round distance of lines, of which four to nine lie between 0 and most (> 0). */
static double scale_step(double most)
{
    double step = 1;

    while (step * 10 <= most)
        step *= 10;
    while (step > most)
        step /= 10;
    return most < 2 * step ? step / 5 : most < 5 * step ? step / 2 : step;
}

static void draw_scale(FILE *out, double most, double left, double right, double bottom)
{
    const double step = scale_step(most);

    for (unsigned i = 0; i * step <= most; i++) {
        double y = bottom - (bottom - 10) * i * step / most;
        char number[32] = "0";

        if (i)
            chart_number(number, sizeof(number), i * step);
        fprintf(out, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>\n", left, y, right);
        fprintf(out, "<text class=\"soft\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                left - 6, y + 4, number);
    }
}

void chart_rounds(FILE *out, const char *title, const char *unit, const double *const *values,
                  const char *const *labels, unsigned series, unsigned rounds)
{
    const double left = 70, right = WIDTH - 10, bottom = LINES_HEIGHT - 10;
    const unsigned legend_rows = (series + 3) / 4;
    double most = 0;

    for (unsigned s = 0; s < series; s++)
        for (unsigned r = 0; r < rounds; r++)
            most = values[s][r] > most ? values[s][r] : most;
    if (most <= 0 || rounds < 2)
        return;
    begin_figure(out, title, unit, LINES_HEIGHT + legend_rows * 22);
    draw_scale(out, most, left, right, bottom);
    for (unsigned s = 0; s < series; s++) {
        unsigned row = s / 4;
        double x = left + s % 4 * 200.0, y = LINES_HEIGHT + row * 22.0;

        fprintf(out, "<polyline class=\"s%u\" stroke-width=\"2\" points=\"", s % COLORS);
        for (unsigned r = 0; r < rounds; r++)
            fprintf(out, "%s%.1f,%.1f", r ? " " : "", left + (right - left) * r / (rounds - 1),
                    bottom - (bottom - 10) * values[s][r] / most);
        fprintf(out, "\"/>\n<rect class=\"f%u\" x=\"%.1f\" y=\"%.1f\" width=\"12\" height=\"12\"/>",
                s % COLORS, x, y);
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\">", x + 18, y + 11);
        chart_text(out, labels[s]);
        fputs("</text>\n", out);
    }
    fputs("</svg>\n", out);
}
