/* schema_agent: the keys of `agent`, `admin`, `inputs` and `routes`. See schema.h for what a row means. */
#include "lib/config/config.h"
#include "lib/config/schema.h"

#define MEMBER(type, path) .offset = offsetof(type, path), .size = sizeof(((type *)NULL)->path)
#define END \
    { \
        .name = NULL \
    }

#define MS UINT64_C(1000)
#define SECOND UINT64_C(1000000)
#define HOUR (3600 * SECOND)
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

#define A(path) MEMBER(struct config_agent, path)
static const struct schema_key agent_log[] = {
    {"level", SCHEMA_ENUM, A(log.level), .fallback = "info", .choices = log_levels,
     .help =
         "How much is said: error = somebody must act, warn = degraded, info = life of the process, debug = "
         "the path of one batch."},
    {"format", SCHEMA_ENUM, A(log.format), .fallback = "text", .choices = log_formats,
     .help = "Diagnostics on standard error as text for people or JSON for machines."},
    END,
};

const struct schema_key schema_agent[] = {
    {"name", SCHEMA_STRING, A(name), .max = 255,
     .help =
         "What this agent calls itself, and the source of events that name none; default: the host name."},
    {"data_dir", SCHEMA_PATH, A(data_dir), .fallback = "/var/lib/penstock", .flags = SCHEMA_RESTART,
     .help = "Directory of spools, dead letters and statistics; one agent per directory."},
    {"min_free", SCHEMA_SIZE, A(min_free), .fallback = "256MiB", .max = 1024 * TIB,
     .help = "Events are refused as if the output were full while the file system has less free than this."},
    {"drain_timeout", SCHEMA_DURATION, A(drain_timeout_us), .fallback = "10s", .max = 24 * HOUR,
     .help = "How long an orderly stop goes on delivering; the rest stays in the spool."},
    {"log", SCHEMA_SECTION, .children = agent_log, .help = "Diagnostics on standard error."},
    END,
};
#undef A

#define A(path) MEMBER(struct config_admin, path)
static const struct schema_key admin_auth[] = {
    {"token", SCHEMA_SECRET, A(auth.token),
     .help = "Bearer token that admin requests must carry; needed beyond loopback."},
    END,
};

const struct schema_key schema_admin[] = {
    {"listen", SCHEMA_LISTEN, A(listen), .fallback = "127.0.0.1:4390",
     .flags = SCHEMA_ALLOW_UNIX | SCHEMA_ALLOW_OFF | SCHEMA_RESTART,
     .help =
         "Where status, metrics and health are served: an address, unix:PATH, or false to switch it off."},
    {"auth", SCHEMA_SECTION, .children = admin_auth, .help = "Who may ask."},
    {"mode", SCHEMA_MODE, A(socket.mode), .fallback = "0660", .max = 0777, .flags = SCHEMA_RESTART,
     .help = "Permissions of a unix: admin socket."},
    {"user", SCHEMA_USER, A(socket.user), .flags = SCHEMA_RESTART, .help = "Owner of a unix: admin socket."},
    {"group", SCHEMA_GROUP, A(socket.group), .flags = SCHEMA_RESTART,
     .help = "Group of a unix: admin socket."},
    {"i_know_this_is_unsafe", SCHEMA_BOOL, A(unsafe), .fallback = "false",
     .help = "Allows an admin listener beyond loopback without a token."},
    END,
};
#undef A

#define A(path) MEMBER(struct config_input, path)
#define ON_HTTP (1u << CONFIG_INPUT_HTTP)
#define ON_UNIX (1u << CONFIG_INPUT_UNIX)
#define ON_DGRAM (1u << CONFIG_INPUT_UNIX_DGRAM)
#define ON_UDP (1u << CONFIG_INPUT_UDP)

static const char *const input_listen[CONFIG_INPUT_TYPES] = {
    [CONFIG_INPUT_HTTP] = "127.0.0.1:4380",
    [CONFIG_INPUT_UDP] = "127.0.0.1:4381",
};
static const char *const input_path[CONFIG_INPUT_TYPES] = {
    [CONFIG_INPUT_UNIX] = "/run/penstock/penstock.sock",
    [CONFIG_INPUT_UNIX_DGRAM] = "/run/penstock/penstock.dgram",
};

static const struct schema_key input_auth[] = {
    {"token", SCHEMA_SECRET, A(auth.token),
     .help = "What an application presents as its vendor key; needed beyond loopback."},
    END,
};

static const struct schema_key input_tls[] = {
    {"cert_file", SCHEMA_FILE, A(tls.cert_file),
     .help = "PEM certificate chain shown to senders; switches TLS on."},
    {"key_file", SCHEMA_FILE, A(tls.key_file), .help = "PEM private key of cert_file."},
    {"client_ca_file", SCHEMA_FILE, A(tls.client_ca_file),
     .help = "Senders must show a certificate signed by one of these authorities."},
    {"min_version", SCHEMA_TLS_VERSION, A(tls.min_version), .fallback = "1.2",
     .help = "Oldest TLS version taken."},
    END,
};

static const struct schema_key input_forward[] = {
    {"shared_key", SCHEMA_SECRET, A(forward.shared_key),
     .help = "Switches the forward protocol's handshake on; NDJSON is then refused on this socket."},
    {"users", SCHEMA_USERS, A(forward.users), .help = "User names and passwords of the handshake."},
    END,
};

static const struct schema_key input_allow[] = {
    {"uid", SCHEMA_UIDS, A(allow.uids), .help = "Users whose processes may connect."},
    {"gid", SCHEMA_GIDS, A(allow.gids), .help = "Groups whose members' processes may connect."},
    END,
};

const struct schema_key schema_input[] = {
    {"type", SCHEMA_ENUM, A(type), .fallback = "http", .choices = config_input_type_names,
     .help = "What is spoken here."},
    {"listen", SCHEMA_LISTEN, A(listen), .by_type = input_listen, .types = ON_HTTP | ON_UDP,
     .help = "Address and port to listen on; beyond loopback it needs auth.token or the unsafe line."},
    {"path", SCHEMA_SOCKET, A(listen), .by_type = input_path, .types = ON_UNIX | ON_DGRAM,
     .help = "Path of the socket, at most 107 bytes."},
    {"mode", SCHEMA_MODE, A(socket.mode), .fallback = "0660", .max = 0777, .types = ON_UNIX | ON_DGRAM,
     .help = "Permissions of the socket."},
    {"user", SCHEMA_USER, A(socket.user), .types = ON_UNIX | ON_DGRAM,
     .help = "Owner of the socket; default: the user that runs the agent."},
    {"group", SCHEMA_GROUP, A(socket.group), .types = ON_UNIX | ON_DGRAM,
     .help = "Group of the socket; default: the group that runs the agent."},
    {"max_event", SCHEMA_SIZE, A(max_event), .fallback = "1MiB", .min = KIB, .max = 16 * MIB,
     .types = ON_UNIX, .help = "Longest line of NDJSON."},
    {"max_body", SCHEMA_SIZE, A(max_body), .fallback = "10MiB", .min = KIB, .max = 64 * MIB,
     .types = ON_HTTP | ON_UNIX,
     .help = "Largest request body, or message of the forward protocol; compressed bodies also inflate to no "
             "more."},
    {"max_connections", SCHEMA_COUNT, A(max_connections), .fallback = "1024", .min = 1, .max = 100000,
     .types = ON_HTTP | ON_UNIX, .help = "Connections at a time; beyond it the longest idle one makes room."},
    {"idle_timeout", SCHEMA_DURATION, A(idle_timeout_us), .fallback = "60s", .min = 100 * MS,
     .max = 24 * HOUR, .flags = SCHEMA_ALLOW_NEVER, .types = ON_HTTP,
     .help = "Longest silence between two requests of a connection."},
    {"request_timeout", SCHEMA_DURATION, A(request_timeout_us), .fallback = "30s", .min = 100 * MS,
     .max = HOUR, .types = ON_HTTP, .help = "Longest time from the first byte of a request to its last."},
    {"receive_buffer", SCHEMA_SIZE, A(receive_buffer), .fallback = "4MiB", .min = 4 * KIB, .max = GIB,
     .types = ON_DGRAM | ON_UDP, .help = "Receive buffer asked of the kernel; datagrams wait there."},
    {"auth", SCHEMA_SECTION, .children = input_auth, .types = ON_HTTP,
     .help = "Who may send; optional on loopback."},
    {"tls", SCHEMA_SECTION, .children = input_tls, .types = ON_HTTP,
     .help = "TLS towards senders; optional."},
    {"webhook", SCHEMA_BOOL, A(webhook), .fallback = "false", .types = ON_HTTP,
     .help = "Answers the CloudEvents webhook handshake (OPTIONS /events)."},
    {"cors_origin", SCHEMA_STRING, A(cors_origin), .fallback = "*", .max = 255, .types = ON_HTTP,
     .help = "Origin that browsers may send from, on the paths of browser SDKs."},
    {"subject_field", SCHEMA_STRING, A(subject_field), .max = 255, .types = ON_UNIX,
     .help = "Field of a forward record that becomes the event's subject."},
    {"forward", SCHEMA_SECTION, .children = input_forward, .types = ON_UNIX,
     .help = "Handshake of the Fluentd forward protocol; optional."},
    {"allow", SCHEMA_SECTION, .children = input_allow, .types = ON_UNIX,
     .help = "Who may connect, by user or by group; left out: everybody whom mode, user and group let."},
    {"i_know_this_is_unsafe", SCHEMA_BOOL, A(unsafe), .fallback = "false",
     .help = "Allows a listener beyond loopback without auth."},
    END,
};
#undef A

#define A(path) MEMBER(struct config_route, path)
static const struct schema_key route_when[] = {
    {"type", SCHEMA_STRING, A(when.type), .max = 255,
     .help = "Pattern of the event's type: * any run, ? one character."},
    {"source", SCHEMA_STRING, A(when.source), .max = 255, .help = "Pattern of the event's source."},
    {"subject", SCHEMA_STRING, A(when.subject), .max = 255,
     .help = "Pattern of the event's subject; an event without one matches none."},
    {"input", SCHEMA_STRING, A(when.input), .max = CONFIG_NAME_MAX,
     .help = "Name of the input that took the event, or a pattern of names."},
    {"api", SCHEMA_ENUM, A(when.api), .choices = config_output_type_names,
     .help = "Only events that came by this api's own paths; cloudevents: neutral events."},
    END,
};

const struct schema_key schema_route[] = {
    {"when", SCHEMA_SECTION, .children = route_when,
     .help = "All that is given must match; left out: every event."},
    {"sample", SCHEMA_COUNT, A(sample), .fallback = "1", .min = 1, .max = 1000000,
     .help = "Keeps 1 in so many, and says so in sampledrate."},
    {"to", SCHEMA_NAMES, A(to), .flags = SCHEMA_REQUIRED,
     .help = "Names of the outputs that each get the event."},
    END,
};

const struct schema_section schema_sections[] = {
    {"agent", schema_agent, SCHEMA_ONE, NULL, "The process itself."},
    {"admin", schema_admin, SCHEMA_ONE, NULL, "Status, metrics, health."},
    {"inputs", schema_input, SCHEMA_NAMED, config_input_type_names,
     "Where Penstock listens; left out: http on 127.0.0.1:4380."},
    {"outputs", schema_output, SCHEMA_NAMED, config_output_type_names, "Where events go; at least one."},
    {"routes", schema_route, SCHEMA_EACH, NULL,
     "Which neutral events go where; the first match wins; may be left out with one output."},
    {NULL, NULL, SCHEMA_ONE, NULL, NULL},
};
