/* config: the configuration file, judged whole and typed. Text in; a `struct config` or a list of faults out.
 *
 * yaml_tree.c turns the text into a bounded tree with positions, schema.c holds the one table of keys that
 * parser, defaults, error text, `check` and the manual come from, config.c walks tree and table together and
 * fills the structs below, rules.c looks for contradictions. Durations are microseconds (_us), sizes bytes;
 * "never" is 0. Every string belongs to the config and lives until config_free().
 *
 * Nothing here does I/O: environment variables, files, users and groups are asked of a `struct config_env`
 * which the agent fills. `check` and `run` judge with this same code. */
#ifndef PENSTOCK_CONFIG_CONFIG_H
#define PENSTOCK_CONFIG_CONFIG_H

#include "lib/base/bytes.h"
#include "lib/base/fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_TEXT_MAX (1u << 20)    /* bytes of a configuration file */
#define CONFIG_SECRET_MAX (64u << 10) /* bytes of one string once its references are resolved */
#define CONFIG_NAME_MAX 63            /* bytes of an input's or output's name */
#define CONFIG_SOCKET_PATH_MAX 107    /* what sun_path holds, less its NUL */
#define CONFIG_SPOOL_BYTES_MIN (4u << 20)

/* --- what the machine is asked ---------------------------------------------------------------------- */

struct config_env {
    void *ctx;
    /* ${env:NAME}; NULL when it is not set. The text is copied at once. */
    const char *(*variable)(void *ctx, const char *name);
    /* ${file:PATH}: appends the whole content. ERR_TOO_BIG when `into` does not take it. */
    enum err (*read_file)(void *ctx, const char *path, struct bytes *into, struct fault *why);
    /* Is this a regular file that we may read? Why not is said without the path, which may hold a secret. */
    enum err (*file_readable)(void *ctx, const char *path, struct fault *why);
    /* Do these readable files make a TLS listener (`server`), or a client? NULL: not given. The function itself may be
     * NULL: then nobody looks inside them. */
    enum err (*tls_usable)(void *ctx, bool server, const char *ca_file, const char *cert_file, const char *key_file,
                           struct fault *why);
    bool (*user_id)(void *ctx, const char *name, uint32_t *ret);
    bool (*group_id)(void *ctx, const char *name, uint32_t *ret);
    const char *host_name; /* default of agent.name */
    bool tls_1_3;          /* this build can speak it */
};

/* --- parts ------------------------------------------------------------------------------------------ */

/* A string that may hold ${env:NAME} and ${file:PATH}. Only the template may be shown; the value never is.
 * config_secret_refresh() reads the references again. */
struct config_secret {
    const char *template; /* as written; NULL: not configured */
    struct span value;    /* resolved, without a file's line ends; its own memory, wiped when replaced */
    bool refers;          /* the template has references: the value may change */
    struct config_secret *next; /* all secrets of the same input, output or admin */
};

enum config_listen_kind { CONFIG_LISTEN_OFF, CONFIG_LISTEN_INET, CONFIG_LISTEN_UNIX };
struct config_listen {
    enum config_listen_kind kind;
    const char *text; /* as written */
    const char *host; /* INET: an IPv4 or IPv6 address without brackets */
    uint16_t port;    /* INET: 0 lets the kernel choose */
    bool ipv6;
    bool loopback;    /* INET: only this machine reaches it; UNIX: always */
    const char *path; /* UNIX */
    bool open;        /* it may be beyond loopback: there is auth, or the unsafe line */
};

struct config_url {
    const char *text;  /* NULL: not configured */
    const char *shown; /* as written, references unresolved: all that may be shown of it */
    bool tls;         /* https */
    const char *host; /* a name, or an address without brackets */
    bool host_is_ip, ipv6, loopback;
    uint16_t port;
    const char *authority; /* what a Host header says: brackets kept, the scheme's own port left out */
    const char *path;  /* "" or "/prefix" without a last slash; for http and cloudevents the whole path, at
                          least "/" */
    const char *query; /* "" or "?a=b" */
};

struct config_header {
    const char *name;
    struct config_secret value;
};

/* A socket file's owner and mode. */
struct config_socket {
    uint32_t mode;
    const char *user, *group; /* NULL: as the process */
    uint32_t uid, gid;        /* of these */
};

struct config_tls_server {
    const char *cert_file, *key_file; /* NULL: no TLS */
    const char *client_ca_file;       /* senders need a certificate of this CA; NULL: they need none */
    unsigned min_version;             /* 12 or 13 */
};

struct config_tls_client {
    const char *ca_file;              /* NULL: the system's */
    const char *cert_file, *key_file; /* NULL: we show none */
    const char *server_name;          /* NULL: the endpoint's host */
    unsigned min_version;             /* 12 or 13 */
    bool verify;
    bool unsafe;
};

/* --- sections --------------------------------------------------------------------------------------- */

enum config_log_level { CONFIG_LOG_ERROR, CONFIG_LOG_WARN, CONFIG_LOG_INFO, CONFIG_LOG_DEBUG };
enum config_log_format { CONFIG_LOG_TEXT, CONFIG_LOG_JSON };

struct config_agent {
    const char *name;
    const char *data_dir;
    uint64_t min_free;
    uint64_t drain_timeout_us;
    struct {
        enum config_log_level level;
        enum config_log_format format;
    } log;
};

struct config_auth {
    struct config_secret token;
};

struct config_admin {
    struct config_listen listen;
    struct config_auth auth;
    struct config_socket socket; /* of a unix: listener */
    bool unsafe;
    struct config_secret *secrets;
};

enum config_input_type {
    CONFIG_INPUT_HTTP,
    CONFIG_INPUT_UNIX,
    CONFIG_INPUT_UNIX_DGRAM,
    CONFIG_INPUT_UDP,
    CONFIG_INPUT_TYPES
};

struct config_user {
    const char *name;
    struct config_secret password;
};

struct config_input {
    const char *name;
    enum config_input_type type;
    struct config_listen listen;  /* all types: INET for http and udp, UNIX for the other two */
    struct config_socket socket;  /* unix, unix_dgram */
    uint64_t max_body;            /* http, unix: one request, one forward message */
    uint64_t max_event;           /* unix: one line */
    unsigned max_connections;     /* http, unix */
    uint64_t idle_timeout_us;     /* http; 0: never */
    uint64_t request_timeout_us;  /* http */
    uint64_t receive_buffer;      /* unix_dgram, udp */
    struct config_auth auth;      /* http */
    struct config_tls_server tls; /* http */
    bool webhook;                 /* http: answers the CloudEvents webhook handshake */
    const char *cors_origin;      /* http: Access-Control-Allow-Origin on browser paths */
    const char *subject_field;    /* unix: record field that becomes `subject`; NULL: none */
    struct {
        struct config_secret shared_key; /* .template NULL: no handshake */
        struct config_user *users;
        unsigned user_count;
    } forward; /* unix */
    /* unix: who may connect, by the peer's credentials; both empty: everybody whom the file's mode lets. */
    struct {
        uint32_t *uids;
        unsigned uid_count;
        uint32_t *gids;
        unsigned gid_count;
    } allow;
    bool unsafe;
    struct config_secret *secrets;
};

/* In the order of the contract's list of apis. */
enum config_output_type {
    CONFIG_OUTPUT_CLOUDEVENTS,
    CONFIG_OUTPUT_HONEYCOMB,
    CONFIG_OUTPUT_LANGFUSE,
    CONFIG_OUTPUT_LAUNCHDARKLY,
    CONFIG_OUTPUT_MONK,
    CONFIG_OUTPUT_SEGOPS,
    CONFIG_OUTPUT_OTLP,
    CONFIG_OUTPUT_HTTP,
    CONFIG_OUTPUT_TYPES
};

enum config_compression {
    CONFIG_COMPRESSION_AUTO,
    CONFIG_COMPRESSION_NONE,
    CONFIG_COMPRESSION_GZIP,
    CONFIG_COMPRESSION_ZSTD
};
enum config_durability { CONFIG_FSYNC, CONFIG_INTERVAL, CONFIG_NO_SYNC };
enum config_when_full { CONFIG_BLOCK, CONFIG_DROP_NEWEST, CONFIG_DROP_OLDEST };
enum config_format { CONFIG_FORMAT_JSON, CONFIG_FORMAT_NDJSON };
enum config_mode { CONFIG_MODE_BATCH, CONFIG_MODE_STRUCTURED, CONFIG_MODE_BINARY };
enum config_session { CONFIG_SESSION_PROXY, CONFIG_SESSION_OFF };

struct config_rate {
    uint64_t requests; /* 0: no limit */
    uint64_t per_us;
};

/* An option of the output's api that differs from its default, by its dotted name below the output
 * ("map.subject", "honeycomb.id_field"), its value as text ("true", "kind_key"). */
struct config_option {
    const char *name;
    const char *value;
};

struct config_output {
    const char *name;
    enum config_output_type type;
    struct config_url endpoint;
    struct {
        struct config_secret api_key, public_key, secret_key, access_token, sdk_key, bearer;
        struct config_header *headers; /* http, otlp, cloudevents; already appended to `headers` below */
        unsigned header_count;
    } credentials;         /* what the type does not take is not configured */
    const char *partition; /* honeycomb: dataset; launchdarkly: project/environment; NULL: none */
    struct config_header *headers;
    unsigned header_count;
    enum config_compression compression; /* never AUTO: resolved for the type */
    struct {
        uint64_t max_events, max_bytes, max_wait_us;
    } batch;
    struct {
        uint64_t event_bytes; /* one rendered event */
        uint64_t batch_events;
        uint64_t batch_bytes;      /* before compression, envelope included */
        uint64_t batch_sent_bytes; /* after compression; 0: not counted */
        uint64_t local_events;     /* in one local request */
    } limits;
    unsigned concurrency;
    bool concurrency_auto; /* `concurrency` is then the ceiling */
    struct {
        uint64_t connect_us, request_us, idle_us;
    } timeout;
    struct {
        uint64_t initial_us, max_us, give_up_after_us; /* give_up_after 0: never */
    } retry;
    struct {
        struct config_rate requests;
    } rate_limit;
    struct config_tls_client tls;
    struct config_url proxy;
    struct config_secret proxy_auth; /* "user:password" of the proxy's URL */
    struct {
        uint64_t max_bytes, segment_bytes;
        uint64_t record_bytes; /* no key: the largest event or opaque request that fits into a file */
        enum config_durability durability;
        enum config_when_full when_full;
        uint64_t max_age_us; /* 0: never */
        bool strict_identity, wipe_recycled, require_local_fs;
        uint64_t scrub_bytes_s; /* 0: never */
    } spool;
    struct {
        uint64_t max_bytes;
        enum config_when_full when_full; /* CONFIG_BLOCK or CONFIG_DROP_NEWEST */
    } dead_letter;
    enum config_format format;   /* http */
    enum config_mode mode;       /* cloudevents */
    const char *webhook_origin;  /* cloudevents: asks for consent before the first delivery; NULL: does not */
    enum config_session session; /* segops: what POST /api/auth/session/ does */
    struct config_option *options; /* everything below `map:` and the key named like the type */
    unsigned option_count;
    bool unsafe;
    struct config_secret *secrets;
};

struct config_route {
    struct {
        const char *type, *source, *subject; /* globs; NULL: any */
        const char *input;                   /* glob over names of inputs; NULL: any */
        bool api_set;
        enum config_output_type
            api; /* with api_set: only events that came by that api's paths; cloudevents: neutral */
    } when;
    uint32_t sample;    /* keeps 1 in so many */
    const char **to;    /* names of outputs */
    unsigned *to_index; /* the same as indices into outputs[] */
    unsigned to_count;
    unsigned line;
};

struct config {
    const char *filename;
    struct config_agent agent;
    struct config_admin admin;
    struct config_input *inputs;
    unsigned input_count;
    struct config_output *outputs;
    unsigned output_count;
    struct config_route
        *routes; /* none with one output: everything neutral goes there (see config_neutral_output()) */
    unsigned route_count;
    struct arena arena; /* config.c's */
};

extern const char *const config_input_type_names[CONFIG_INPUT_TYPES + 1];   /* NULL at the end, as the next */
extern const char *const config_output_type_names[CONFIG_OUTPUT_TYPES + 1]; /* also the names of the apis */

/* --- reading ---------------------------------------------------------------------------------------- */

enum config_severity { CONFIG_FAULT, CONFIG_WARNING, CONFIG_NOTE };
struct config_message {
    enum config_severity severity;
    unsigned line, column; /* 1-based, columns in bytes; 0: the file as a whole */
    char text[480];
};

#define CONFIG_MESSAGES_MAX 100
struct config_report {
    struct config_message *messages; /* in the order of the file */
    unsigned count;
    unsigned faults;   /* how many are CONFIG_FAULT, those left out included */
    unsigned left_out; /* beyond CONFIG_MESSAGES_MAX */
};
void config_report_init(struct config_report *r);
void config_report_deinit(struct config_report *r);
/* Adds a message about the file as a whole. */
void config_report_add(struct config_report *r, enum config_severity severity, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* "FILE:LINE:COLUMN: text", without a line end, cut to size. */
void config_message_print(const struct config_message *m, const char *filename, char *into, size_t size);

/* Judges a whole configuration. NULL when the report has faults; warnings and notes may be there either way.
 * `report` must have been initialised. `filename` is copied. */
struct config *config_parse(struct span text, const char *filename, const struct config_env *env,
                            struct config_report *report);
void config_free(struct config *c); /* wipes the secrets; NULL is taken */

struct config_output *config_find_output(const struct config *c, const char *name);
struct config_input *config_find_input(const struct config *c, const char *name);
/* The output of neutral events when there are no routes: the only one, if it takes them; else NULL. */
const struct config_output *config_neutral_output(const struct config *c);

/* --- secrets ---------------------------------------------------------------------------------------- */

/* Reads the references again. On a failure the old value stays. When *ret_changed is set, spans of the old
 * value are gone. */
MUST_USE enum err config_secret_refresh(struct config_secret *s, const struct config_env *env,
                                        bool *ret_changed, struct fault *why);
/* The same for a whole chain (output->secrets, …): goes on after a failure, and answers the first. */
MUST_USE enum err config_secrets_refresh(struct config_secret *chain, const struct config_env *env,
                                         bool *ret_changed, struct fault *why);

/* The same in two steps, so that files can be read off the loop. The first touches templates, files and variables only, and
 * may run on any thread while the chain lives; the second puts in place what was read, and lets it go. */
struct config_secrets_fresh;
struct config_secrets_fresh *config_secrets_read(const struct config_secret *chain, const struct config_env *env);
MUST_USE enum err config_secrets_adopt(struct config_secret *chain, struct config_secrets_fresh *fresh,
                                       bool *ret_changed, struct fault *why);
void config_secrets_forget(struct config_secrets_fresh *fresh); /* NULL is taken */
/* Has any of them references, so that reading again makes sense? */
bool config_secrets_refer(const struct config_secret *chain);

/* --- reload ----------------------------------------------------------------------------------------- */

/* Deep comparison by the table of keys. Secrets are compared by template: a new value takes effect by
 * config_secrets_refresh() and is no change of configuration. */
bool config_input_same(const struct config_input *a, const struct config_input *b);
bool config_output_same(const struct config_output *a, const struct config_output *b);
bool config_admin_same(const struct config_admin *a, const struct config_admin *b);
bool config_agent_same(const struct config_agent *a, const struct config_agent *b);
bool config_routes_same(const struct config *a, const struct config *b);

/* Keys that differ and take effect only at the next start, as text for people ("agent.data_dir,
 * admin.listen"). Answers how many there are. */
unsigned config_restart_keys(const struct config *old, const struct config *new, char *into, size_t size);

#endif
