/* output_config: from what the configuration says of an output to what its core, its spool and its api are told. */
#ifndef PENSTOCK_AGENT_OUTPUT_CONFIG_H
#define PENSTOCK_AGENT_OUTPUT_CONFIG_H

#include "lib/output/output.h"

struct config_output;
struct output_host;

void output_config_spool(const struct config_output *c, uint64_t min_free, struct spool_config *ret);
/* Spans in *ret are the configuration's; the options array is owned by *ret: output_config_release(). */
void output_config_core(const struct config_output *c, const char *agent_name, struct output_config *ret);
void output_config_release(struct output_config *core);
/* Points the api's credentials at the present values of the secrets. */
void output_config_credentials(const struct config_output *c, struct api_settings *settings);
/* Has secrets, certificates and keys read again, off the loop; what fails keeps its old value and is said. */
void output_config_reread_init(struct output_host *h);
void output_config_reread(struct output_host *h);

#endif
