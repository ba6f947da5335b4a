/* NDJSON on its way to an agent: what becomes of each line. */
#include "agent/send_lines.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static unsigned complaints;
static uint64_t complained_line;

static void on_refused(void *ctx, const char *file, uint64_t number, const char *text)
{
    (void)ctx, (void)file, (void)text;
    complaints++;
    complained_line = number;
}

/* The first batch of a file with this content; the caller frees it. */
static struct send_batch *batch_of(const char *content, const char *type)
{
    char path[] = "/tmp/penstock-send-XXXXXX";
    int fd = mkstemp(path);
    struct fault why;
    cr_assert(fd >= 0 && write(fd, content, strlen(content)) == (ssize_t)strlen(content));
    close(fd);
    char *files[] = {path};
    struct send_source *source = must_alloc(sizeof *source);
    struct send_batch *b = must_alloc(sizeof *b);
    send_source_init(source, files, 1, type);
    source->on_refused = on_refused;
    send_batch_init(b);
    cr_assert_eq(send_source_fill(source, b, &why), OK);
    cr_expect_eq(source->bytes_total, strlen(content));
    send_source_deinit(source);
    free(source);
    unlink(path);
    return b;
}

static void free_batch(struct send_batch *b)
{
    send_batch_deinit(b);
    free(b);
}

static void expect_text(const char *content, const char *type, const char *expected)
{
    struct send_batch *b = batch_of(content, type);
    cr_expect(span_is(bytes_span(&b->text), expected), "%s became %.*s", content,
              SPAN_FMT(bytes_span(&b->text)));
    free_batch(b);
}

Test(send_lines, with_an_id_and_a_type_is_sent_as_it_is)
{
    expect_text("{\"id\":\"1\",\"type\":\"t\" }\n", NULL, "{\"id\":\"1\",\"type\":\"t\" }\n");
}

Test(send_lines, mark_blank_lines_and_carriage_returns_are_skipped)
{
    expect_text("\xef\xbb\xbf{\"id\":\"1\"}\r\n\n  \n{\"id\":\"2\"}", NULL,
                "{\"id\":\"1\"}\n{\"id\":\"2\"}\n");
}

Test(send_lines, type_is_added_to_an_envelope_and_wrapped_around_anything_else)
{
    expect_text("{\"id\":\"1\",\"subject\":\"u\"}", "a\"b",
                "{\"type\":\"a\\\"b\",\"id\":\"1\",\"subject\":\"u\"}\n");
    expect_text("{\"id\":\"1\",\"type\":\"own\"}", "t", "{\"id\":\"1\",\"type\":\"own\"}\n");
}

Test(send_lines, without_an_id_gets_one_in_front)
{
    struct send_batch *b = batch_of("{\"type\":\"t\"}\n{}\n{\"path\":1}\n7\n", "w");
    struct json_member members[4];
    struct json_value value;
    size_t count;
    cr_assert_eq(b->count, 4);
    for (unsigned i = 0; i < b->count; i++) {
        struct span line = span_of(b->text.at + b->lines[i].at, b->lines[i].len);
        cr_assert_eq(json_check_object(line, members, 4, &count, &value, NULL), OK, "%.*s", SPAN_FMT(line));
        cr_assert_not_null(json_find(members, count, "id"));
        cr_expect_eq(json_find(members, count, "id")->value.text.len, UUID_TEXT + 2);
        cr_expect_not_null(json_find(members, count, "type"));
        cr_expect_eq(json_find(members, count, "data") != NULL, i >= 2);
    }
    free_batch(b);
}

Test(send_lines, bad_lines_are_named_and_left_out)
{
    struct send_batch *b = batch_of("{\"id\":\"1\"}\n{oops\n{\"id\":\"3\"}\n", NULL);
    cr_expect_eq(b->count, 2);
    cr_expect_eq(b->lines[1].number, 3);
    cr_expect_eq(complaints, 1);
    cr_expect_eq(complained_line, 2);
    free_batch(b);
}
