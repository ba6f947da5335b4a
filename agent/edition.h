/* edition: one configuration, alive as long as somebody runs on it.
 *
 * A reload leaves what did not change untouched: such an input or output goes on with the very configuration it was
 * made from, while the agent as a whole has a newer one. So a configuration has several real owners: the agent
 * (its present one, and the one it was started with), and each input and output, which take it when they are made
 * and drop it when they are freed. The last one frees it. At most one edition per input and output is alive. */
#ifndef PENSTOCK_AGENT_EDITION_H
#define PENSTOCK_AGENT_EDITION_H

struct config;

struct config_edition {
    struct config *config;
    unsigned users;
};

/* Takes the configuration over; the caller is its first user. */
struct config_edition *edition_new(struct config *config);
struct config_edition *edition_take(struct config_edition *e);
void edition_drop(struct config_edition *e); /* NULL is taken */

#endif
