/* yaml_tree: positions, bounds and what is refused. */
#include "lib/config/yaml_tree.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

struct found {
    unsigned count;
    struct yaml_pos pos;
    char text[200];
};

static void on_fault(void *ctx, struct yaml_pos pos, const char *text)
{
    struct found *f = ctx;
    if (f->count++ == 0) {
        f->pos = pos;
        (void)snprintf(f->text, sizeof f->text, "%s", text);
    }
}

static struct arena arena;

static struct yaml_node *parse(const char *text, struct found *f)
{
    arena_init(&arena, 4096, 4 << 20);
    *f = (struct found){0};
    return yaml_tree_parse(span_str(text), &arena, on_fault, f);
}

Test(yaml_tree, keys_and_values_know_their_line_and_byte_column)
{
    struct found f;
    struct yaml_node *root = parse("a: 1\nb:\n  \xc3\xa9\xe2\x82\xac: { x: y }\n  l: [ p, \"q\" ]\n", &f);
    cr_assert(root != NULL && f.count == 0);
    const struct yaml_node *a = yaml_child(root, "a"), *b = yaml_child(root, "b");
    cr_expect(a->key_pos.line == 1 && a->key_pos.column == 1);
    cr_expect(a->pos.line == 1 && a->pos.column == 4);
    const struct yaml_node *e = yaml_child(b, "\xc3\xa9\xe2\x82\xac");
    cr_assert(e != NULL);
    cr_expect(e->key_pos.line == 3 && e->key_pos.column == 3);
    /* Two characters are five bytes: a count of characters would say 7 here. */
    cr_expect_eq(e->pos.column, 10);
    const struct yaml_node *q = yaml_child(b, "l")->first->next;
    cr_expect_str_eq(q->text, "q");
    cr_expect(q->quoted && q->pos.line == 4 && q->pos.column == 11);
    arena_deinit(&arena);
}

Test(yaml_tree, an_empty_value_is_null_where_it_would_stand)
{
    struct found f;
    struct yaml_node *root = parse("{ a: , b: null, c: ~, d: \"\" }", &f);
    cr_assert(root != NULL);
    cr_expect(yaml_is_null(yaml_child(root, "a")));
    cr_expect(yaml_is_null(yaml_child(root, "b")));
    cr_expect(yaml_is_null(yaml_child(root, "c")));
    cr_expect_not(yaml_is_null(yaml_child(root, "d")));
    arena_deinit(&arena);
}

Test(yaml_tree, refuses_with_the_position)
{
    static const struct {
        const char *text;
        unsigned line, column;
        const char *words;
        bool tree; /* reading goes on */
    } table[] = {
        {"a: 1\na: 2\n", 2, 1, "twice", true},
        {"a: { b: 1, c: 2, b: [3] }\n", 1, 18, "line 1", true},
        {"a: &x 1\nb: *x\n", 2, 4, "aliases", true},
        {"a: !!str 1\n", 1, 4, "tags", true},
        {"a: !thing { b: 1 }\n", 1, 4, "tags", true},
        {"a: 1\n---\nb: 2\n", 2, 1, "second document", false},
        {"? [1]\n: 2\n", 1, 3, "name before the colon", false},
        {"\"\": 2\n", 1, 1, "name before the colon", true},
        {"\"a\\0b\": 2\n", 1, 1, "name before the colon", true},
        {"a: [1, 2\nb: 3\n", 2, 2, "not valid YAML", false},
        {"a: b: c\n", 1, 5, "not valid YAML", false},
        {"\xef\xbb\xbf"
         "a: b: c\n",
         1, 8, "not valid YAML", false},
        {"a: 1\nb: \xff\n", 2, 4, "UTF-8", false},
        {"a: 1\nb: \x01\n", 2, 4, "control characters", false},
        {"[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", 1, 17, "deeper", false},
        {"a: \"b", 1, 6, "not valid YAML", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct found f;
        struct yaml_node *root = parse(table[i].text, &f);
        cr_expect_geq(f.count, 1, "%s", table[i].text);
        cr_expect(strstr(f.text, table[i].words) != NULL, "%s: %s", table[i].text, f.text);
        cr_expect(f.pos.line == table[i].line && f.pos.column == table[i].column, "%s: %u:%u", table[i].text,
                  f.pos.line, f.pos.column);
        cr_expect_eq(root != NULL, table[i].tree, "%s", table[i].text);
        arena_deinit(&arena);
    }
}

Test(yaml_tree, a_doubled_key_keeps_its_first_value)
{
    struct found f;
    struct yaml_node *root = parse("a: 1\na: { b: { c: d } }\ne: 2\n", &f);
    cr_assert(root != NULL);
    cr_expect_eq(root->count, 2);
    cr_expect_str_eq(yaml_child(root, "a")->text, "1");
    cr_expect_str_eq(yaml_child(root, "e")->text, "2");
    arena_deinit(&arena);
}

Test(yaml_tree, bounds_the_number_of_values)
{
    struct found f;
    size_t size = 2 * (YAML_NODES_MAX + 2);
    char *text = malloc(size + 2);
    cr_assert(text != NULL);
    text[0] = '[';
    for (size_t i = 1; i < size; i += 2)
        memcpy(text + i, "1,", 2);
    text[size - 1] = '\0';
    cr_expect(parse(text, &f) == NULL);
    cr_expect(strstr(f.text, "more values") != NULL, "%s", f.text);
    arena_deinit(&arena);
    free(text);
}

Test(yaml_tree, nothing_is_no_tree_and_no_fault)
{
    static const char *const table[] = {"", "# a comment\n", "\xef\xbb\xbf", "\n\n"};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct found f;
        cr_expect(parse(table[i], &f) == NULL);
        cr_expect_eq(f.count, 0);
        arena_deinit(&arena);
    }
}
