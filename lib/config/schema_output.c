/* schema_output: the keys of `outputs.NAME`, with what each api's service documents as its limits.
 *
 * Sources of the figures. Honeycomb: create-events page and libhoney-go (1,000,000 bytes an event, 5,000,000
 * a batch raw, 1,000,000 as sent). Langfuse: ingestion API (3.5 MB documented, SDKs stop at 2.5 MB and
 * 1,000,000 an event). LaunchDarkly: "Importing metric events" (below 10 MB, advice: time-based batches).
 * Monk: batch-create-events (10,000 events; sizes undocumented, ours). SegOps: event tracking overview
 * (500 events, 60 calls a minute on the smallest plan; sizes undocumented, ours). The rest are our bounds. */
#include "lib/config/config.h"
#include "lib/config/schema.h"

#define MEMBER(path) \
    .offset = offsetof(struct config_output, path), .size = sizeof(((struct config_output *)NULL)->path)
#define END \
    { \
        .name = NULL \
    }

#define MS UINT64_C(1000)
#define SECOND UINT64_C(1000000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

#define CLOUDEVENTS (1u << CONFIG_OUTPUT_CLOUDEVENTS)
#define HONEYCOMB (1u << CONFIG_OUTPUT_HONEYCOMB)
#define LANGFUSE (1u << CONFIG_OUTPUT_LANGFUSE)
#define LAUNCHDARKLY (1u << CONFIG_OUTPUT_LAUNCHDARKLY)
#define MONK (1u << CONFIG_OUTPUT_MONK)
#define SEGOPS (1u << CONFIG_OUTPUT_SEGOPS)
#define OTLP (1u << CONFIG_OUTPUT_OTLP)
#define PLAIN_HTTP (1u << CONFIG_OUTPUT_HTTP)

#define PER_TYPE(ce, hc, lf, ld, mk, so, ot, ht) \
    ((const char *const[CONFIG_OUTPUT_TYPES]){[CONFIG_OUTPUT_CLOUDEVENTS] = (ce), \
                                              [CONFIG_OUTPUT_HONEYCOMB] = (hc), \
                                              [CONFIG_OUTPUT_LANGFUSE] = (lf), \
                                              [CONFIG_OUTPUT_LAUNCHDARKLY] = (ld), \
                                              [CONFIG_OUTPUT_MONK] = (mk), \
                                              [CONFIG_OUTPUT_SEGOPS] = (so), \
                                              [CONFIG_OUTPUT_OTLP] = (ot), \
                                              [CONFIG_OUTPUT_HTTP] = (ht)})

static const char *const compressions[] = {"auto", "none", "gzip", "zstd", NULL};
static const char *const durabilities[] = {"fsync", "interval", "none", NULL};
static const char *const when_fulls[] = {"block", "drop_newest", "drop_oldest", NULL};
static const char *const dead_when_fulls[] = {"block", "drop_newest", NULL};
static const char *const formats[] = {"json", "ndjson", NULL};
static const char *const modes[] = {"batch", "structured", "binary", NULL};
static const char *const sessions[] = {"proxy", "off", NULL};
static const char *const honeycomb_datasets[] = {"extension", "type", NULL};
static const char *const launchdarkly_subjects[] = {"user", "kind_key", NULL};
static const char *const monk_subjects[] = {"externalCustomerId", "customerId", NULL};
static const char *const monk_keys[] = {"id", "source_id", NULL};
static const char *const monk_extensions[] = {"off", "properties", NULL};
static const char *const segops_extensions[] = {"off", "payload", NULL};

static const struct schema_key credentials[] = {
    {"api_key", SCHEMA_SECRET, MEMBER(credentials.api_key), .types = HONEYCOMB | MONK | SEGOPS,
     .help = "The service's API key."},
    {"public_key", SCHEMA_SECRET, MEMBER(credentials.public_key), .types = LANGFUSE, .help = "pk-lf-…"},
    {"secret_key", SCHEMA_SECRET, MEMBER(credentials.secret_key), .types = LANGFUSE, .help = "sk-lf-…"},
    {"access_token", SCHEMA_SECRET, MEMBER(credentials.access_token), .types = LAUNCHDARKLY,
     .help = "Access token that may importEventData, for the metric import."},
    {"sdk_key", SCHEMA_SECRET, MEMBER(credentials.sdk_key), .types = LAUNCHDARKLY,
     .help = "SDK key, for events of LaunchDarkly's own SDKs."},
    {"bearer", SCHEMA_SECRET, MEMBER(credentials.bearer), .types = PLAIN_HTTP | OTLP | CLOUDEVENTS,
     .help = "Sent as Authorization: Bearer."},
    {"headers", SCHEMA_HEADERS, MEMBER(credentials.headers), .types = PLAIN_HTTP | OTLP | CLOUDEVENTS,
     .help = "Headers that carry credentials, for services that want them elsewhere."},
    END,
};

static const struct schema_key batch[] = {
    {"max_events", SCHEMA_COUNT, MEMBER(batch.max_events), .min = 1, .max = 100000,
     .by_type = PER_TYPE("1000", "1000", "1000", "10000", "5000", "500", "1", "1000"),
     .help = "A batch closes at so many events."},
    {"max_bytes", SCHEMA_SIZE, MEMBER(batch.max_bytes), .min = KIB, .max = 16 * MIB,
     .by_type = PER_TYPE("1MB", "5MB", "2500KB", "9MB", "5MB", "1MB", "10MiB", "1MB"),
     .help = "A batch closes at so many bytes before compression."},
    {"max_wait", SCHEMA_DURATION, MEMBER(batch.max_wait_us), .max = HOUR,
     .by_type = PER_TYPE("1s", "1s", "1s", "10s", "1s", "5s", "1s", "1s"),
     .help = "A batch closes when its first event has waited so long."},
    END,
};

static const struct schema_key limits[] = {
    {"event_bytes", SCHEMA_SIZE, MEMBER(limits.event_bytes), .min = KIB, .max = 16 * MIB,
     .by_type = PER_TYPE("2MiB", "1MB", "1MB", "1MB", "256KiB", "256KiB", "10MiB", "2MiB"),
     .help = "Largest event that is accepted, as it goes on the wire."},
    {"batch_events", SCHEMA_COUNT, MEMBER(limits.batch_events), .min = 1, .max = 100000,
     .by_type = PER_TYPE("10000", "10000", "10000", "100000", "10000", "500", "1", "100000"),
     .help = "The service's limit of events in a request; batch.max_events stays within it."},
    {"batch_bytes", SCHEMA_SIZE, MEMBER(limits.batch_bytes), .min = KIB, .max = 32 * MIB,
     .by_type = PER_TYPE("10MB", "5MB", "3500KB", "9999999B", "16MiB", "16MiB", "16MiB", "10MB"),
     .help = "The service's limit of a request before compression; batch.max_bytes stays within it."},
    {"batch_sent_bytes", SCHEMA_SIZE, MEMBER(limits.batch_sent_bytes), .max = 32 * MIB,
     .by_type = PER_TYPE("0", "1MB", "0", "0", "0", "0", "0", "0"),
     .help = "The service's limit of a request after compression; 0: it has none."},
    {"local_events", SCHEMA_COUNT, MEMBER(limits.local_events), .min = 1, .max = 10000,
     .by_type = PER_TYPE("10000", "10000", "10000", "10000", "10000", "10000", "1", "10000"),
     .help = "Most events in one request of an application."},
    END,
};

static const struct schema_key timeout[] = {
    {"connect", SCHEMA_DURATION, MEMBER(timeout.connect_us), .fallback = "5s", .min = 100 * MS, .max = HOUR,
     .help = "Longest wait for name lookup, connection and TLS handshake."},
    {"request", SCHEMA_DURATION, MEMBER(timeout.request_us), .fallback = "30s", .min = 100 * MS, .max = HOUR,
     .help = "Longest time from the first byte of a request to the last of its answer."},
    {"idle", SCHEMA_DURATION, MEMBER(timeout.idle_us), .fallback = "60s", .min = 100 * MS, .max = 24 * HOUR,
     .help = "An unused connection is closed after this."},
    END,
};

static const struct schema_key retry[] = {
    {"initial", SCHEMA_DURATION, MEMBER(retry.initial_us), .fallback = "500ms", .min = 10 * MS, .max = HOUR,
     .help = "First backoff; each further one doubles, with full jitter."},
    {"max", SCHEMA_DURATION, MEMBER(retry.max_us), .fallback = "60s", .min = 10 * MS, .max = 24 * HOUR,
     .help = "Longest backoff of our own; a longer Retry-After is honoured all the same."},
    {"give_up_after", SCHEMA_DURATION, MEMBER(retry.give_up_after_us), .fallback = "never", .min = SECOND,
     .max = 3650 * DAY, .flags = SCHEMA_ALLOW_NEVER,
     .help = "A batch that could not be delivered for so long becomes dead letters."},
    END,
};

static const struct schema_key rate_limit[] = {
    {"requests", SCHEMA_RATE, MEMBER(rate_limit.requests),
     .by_type = PER_TYPE("none", "none", "none", "none", "none", "60/1m", "none", "none"),
     .help = "Most requests in a time, such as 60/1m; none switches it off."},
    END,
};

static const struct schema_key tls[] = {
    {"ca_file", SCHEMA_FILE, MEMBER(tls.ca_file), .help = "PEM authorities to trust; default: the system's."},
    {"cert_file", SCHEMA_FILE, MEMBER(tls.cert_file), .help = "PEM certificate that we show."},
    {"key_file", SCHEMA_FILE, MEMBER(tls.key_file), .help = "PEM private key of cert_file."},
    {"server_name", SCHEMA_STRING, MEMBER(tls.server_name), .max = 253,
     .help = "Name that the service's certificate must have; default: the endpoint's host."},
    {"min_version", SCHEMA_TLS_VERSION, MEMBER(tls.min_version), .fallback = "1.2",
     .help = "Oldest TLS version taken."},
    {"verify", SCHEMA_BOOL, MEMBER(tls.verify), .fallback = "true",
     .help = "Checks the service's certificate; false needs the unsafe line."},
    {"i_know_this_is_unsafe", SCHEMA_BOOL, MEMBER(tls.unsafe), .fallback = "false",
     .help = "Allows verify: false."},
    END,
};

static const struct schema_key spool[] = {
    {"max_bytes", SCHEMA_SIZE, MEMBER(spool.max_bytes), .fallback = "8GiB", .min = CONFIG_SPOOL_BYTES_MIN,
     .max = 1024 * TIB, .help = "Disk that this output's spool may take, dead letters apart."},
    {"segment_bytes", SCHEMA_SIZE, MEMBER(spool.segment_bytes), .fallback = "16MiB", .min = MIB, .max = GIB,
     .by_type = PER_TYPE(NULL, NULL, NULL, NULL, NULL, NULL, "64MiB", NULL),
     .help = "Size of one file of the spool; never more than a sixteenth of max_bytes is used. An event may "
             "take a quarter."},
    {"durability", SCHEMA_ENUM, MEMBER(spool.durability), .fallback = "fsync", .choices = durabilities,
     .help = "When an event is answered for: after fdatasync, after write with a sync each second, or after "
             "write."},
    {"when_full", SCHEMA_ENUM, MEMBER(spool.when_full), .fallback = "block", .choices = when_fulls,
     .help = "What happens when the spool is full: senders are told to come back, or new or old events are "
             "dropped."},
    {"max_age", SCHEMA_DURATION, MEMBER(spool.max_age_us), .fallback = "never", .min = SECOND,
     .max = 3650 * DAY, .flags = SCHEMA_ALLOW_NEVER,
     .help = "Events that waited longer are dropped as expired, a file at a time: up to an eighth later."},
    {"strict_identity", SCHEMA_BOOL, MEMBER(spool.strict_identity), .fallback = "false",
     .help = "With durability interval or none: what is in a batch is synced all the same before it is first sent, so "
             "that it goes again under the same id after a power failure."},
    {"wipe_recycled", SCHEMA_BOOL, MEMBER(spool.wipe_recycled), .fallback = "false",
     .help = "Files are filled with zeros before they are used again, so that none holds delivered events."},
    {"require_local_fs", SCHEMA_BOOL, MEMBER(spool.require_local_fs), .fallback = "false",
     .help = "Refuses to start on a network file system, tmpfs, overlay or FUSE, instead of warning."},
    {"scrub", SCHEMA_SIZE, MEMBER(spool.scrub_bytes_s), .fallback = "0", .max = GIB,
     .help = "Reads what waits on disk again while idle, so many bytes a second, to find damage early; 0: never."},
    END,
};

static const struct schema_key dead_letter[] = {
    {"max_bytes", SCHEMA_SIZE, MEMBER(dead_letter.max_bytes), .fallback = "256MiB", .min = 64 * KIB,
     .max = TIB, .help = "Disk that dead letters may take."},
    {"when_full", SCHEMA_ENUM, MEMBER(dead_letter.when_full), .fallback = "block", .choices = dead_when_fulls,
     .help = "What happens when there are more: the output stops, or new letters are dropped."},
    END,
};

static const struct schema_key map[] = {
    {"dataset", SCHEMA_ENUM, .fallback = "extension", .choices = honeycomb_datasets, .types = HONEYCOMB,
     .flags = SCHEMA_OPTION,
     .help = "Where the dataset of a neutral event comes from: its extension, or its type."},
    {"flatten", SCHEMA_BOOL, .fallback = "false", .types = HONEYCOMB, .flags = SCHEMA_OPTION,
     .help = "Nested objects become columns named a.b."},
    {"subject", SCHEMA_ENUM, .fallback = "user", .choices = launchdarkly_subjects, .types = LAUNCHDARKLY,
     .flags = SCHEMA_OPTION, .help = "The subject is a key of kind user, or is written kind:key."},
    {"subject", SCHEMA_ENUM, .fallback = "externalCustomerId", .choices = monk_subjects, .types = MONK,
     .flags = SCHEMA_OPTION, .help = "Whether the subject is the caller's or Monk's own id of the customer."},
    {"source", SCHEMA_STRING, .max = 255, .types = MONK | SEGOPS, .flags = SCHEMA_OPTION,
     .help =
         "Name under which the source is added to Monk's properties or SegOps' payload; default: left out."},
    {"id", SCHEMA_ENUM, .fallback = "id", .choices = monk_keys, .types = MONK, .flags = SCHEMA_OPTION,
     .help = "The idempotency key of a neutral event: its id, or a UUID made of source and id."},
    {"extensions", SCHEMA_ENUM, .fallback = "off", .choices = monk_extensions, .types = MONK,
     .flags = SCHEMA_OPTION, .help = "Extensions are left out, or become properties."},
    {"extensions", SCHEMA_ENUM, .fallback = "off", .choices = segops_extensions, .types = SEGOPS,
     .flags = SCHEMA_OPTION, .help = "Extensions are left out, or become part of the payload."},
    {"type_prefix", SCHEMA_STRING, .max = 255, .types = SEGOPS, .flags = SCHEMA_OPTION,
     .help = "Taken from the front of the type before it becomes event_type."},
    END,
};

static const struct schema_key honeycomb[] = {
    {"id_field", SCHEMA_STRING, .max = 255, .flags = SCHEMA_OPTION,
     .help =
         "Column for the event's id, to count distinct where a repeat could not be avoided; default: none."},
    END,
};

static const struct schema_key launchdarkly[] = {
    {"company", SCHEMA_STRING, .fallback = "Penstock", .max = 64, .flags = SCHEMA_OPTION,
     .help = "Company in the User-Agent of the metric import."},
    {"lenient", SCHEMA_BOOL, .fallback = "false", .flags = SCHEMA_OPTION,
     .help = "Takes the valid events of an import request that also has bad ones."},
    {"import_custom", SCHEMA_BOOL, .fallback = "false", .flags = SCHEMA_OPTION,
     .help = "Custom events of SDKs go to the metric import, other kinds are left out."},
    END,
};

static const struct schema_key monk_paths[] = {
    {"batch", SCHEMA_STRING, .fallback = "/v1/events/batch", .max = 255, .flags = SCHEMA_OPTION,
     .help = "Path of the batch request."},
    {"single", SCHEMA_STRING, .fallback = "/v1/events", .max = 255, .flags = SCHEMA_OPTION,
     .help = "Path of the request with one event."},
    END,
};

static const struct schema_key monk[] = {
    {"key", SCHEMA_ENUM, .fallback = "id", .choices = monk_keys, .flags = SCHEMA_OPTION,
     .option_as = "map.id", .help = "The same as map.id."},
    {"lenient", SCHEMA_BOOL, .fallback = "false", .flags = SCHEMA_OPTION,
     .help = "Takes the valid events of a batch that also has bad ones; those become dead letters."},
    {"paths", SCHEMA_SECTION, .children = monk_paths, .help = "Paths below the endpoint."},
    END,
};

static const struct schema_key segops_paths[] = {
    {"batch", SCHEMA_STRING, .fallback = "/api/ingestion/track/batch/", .max = 255, .flags = SCHEMA_OPTION,
     .help = "Path of the batch request."},
    {"single", SCHEMA_STRING, .fallback = "/api/ingestion/track/", .max = 255, .flags = SCHEMA_OPTION,
     .help = "Path of the request with one event; nothing is sent there, as a batch may be one event."},
    END,
};

static const struct schema_key segops[] = {
    {"id_field", SCHEMA_STRING, .max = 255, .flags = SCHEMA_OPTION,
     .help = "Member of the payload for the event's id, to count distinct; default: none."},
    {"session", SCHEMA_ENUM, MEMBER(session), .fallback = "proxy", .choices = sessions,
     .help = "POST /api/auth/session/ is passed on to the service while the client waits, or is off."},
    {"max_local_batch", SCHEMA_COUNT, MEMBER(limits.local_events), .min = 500, .max = 10000,
     .help = "Most events in one request of an application; the same as limits.local_events."},
    {"paths", SCHEMA_SECTION, .children = segops_paths,
     .help = "Paths below the endpoint, for proxies in front of it."},
    END,
};

const struct schema_key schema_output[] = {
    {"type", SCHEMA_ENUM, MEMBER(type), .choices = config_output_type_names, .flags = SCHEMA_REQUIRED,
     .help = "The api that is spoken."},
    {"endpoint", SCHEMA_URL, MEMBER(endpoint),
     .by_type = PER_TYPE(NULL, "https://api.honeycomb.io", "https://cloud.langfuse.com",
                         "https://events.launchdarkly.com", "https://events-api.monk.com",
                         "https://api.segops.ai", "http://127.0.0.1:4318", NULL),
     .help = "Base URL of the service; a path prefix is kept. For http and cloudevents: the whole URL."},
    {"credentials", SCHEMA_SECTION, .children = credentials, .help = "How we show who we are."},
    {"partition", SCHEMA_STRING, MEMBER(partition), .max = 255, .types = HONEYCOMB | LAUNCHDARKLY,
     .help = "For neutral events that name none: Honeycomb's dataset, LaunchDarkly's project/environment."},
    {"headers", SCHEMA_HEADERS, MEMBER(headers), .help = "Further headers of every request."},
    {"compression", SCHEMA_ENUM, MEMBER(compression), .fallback = "auto", .choices = compressions,
     .help = "auto takes the best that the api takes: zstd for honeycomb, gzip for http, launchdarkly and "
             "langfuse's OTLP path, else none."},
    {"batch", SCHEMA_SECTION, .children = batch, .help = "When a batch closes."},
    {"limits", SCHEMA_SECTION, .children = limits,
     .help = "The service's limits, where they differ from its documents."},
    {"concurrency", SCHEMA_CONCURRENCY, MEMBER(concurrency), .min = 1, .max = 64,
     .by_type = PER_TYPE("4", "4", "4", "4", "4", "1", "4", "4"),
     .help = "Requests in flight; auto finds its level, with the default as the ceiling."},
    {"timeout", SCHEMA_SECTION, .children = timeout, .help = "How long we wait for the service."},
    {"retry", SCHEMA_SECTION, .children = retry, .help = "How a failed request is tried again."},
    {"rate_limit", SCHEMA_SECTION, .children = rate_limit, .help = "How fast we may be."},
    {"tls", SCHEMA_SECTION, .children = tls, .help = "TLS towards the service."},
    {"proxy", SCHEMA_PROXY, MEMBER(proxy),
     .help = "HTTP proxy to go through: http://[user:password@]host[:port]; %40 is an @ in them."},
    {"spool", SCHEMA_SECTION, .children = spool, .help = "The log on disk."},
    {"dead_letter", SCHEMA_SECTION, .children = dead_letter, .help = "Events that the service refused."},
    {"format", SCHEMA_ENUM, MEMBER(format), .fallback = "json", .choices = formats, .types = PLAIN_HTTP,
     .help = "A batch as a JSON array, or as lines."},
    {"mode", SCHEMA_ENUM, MEMBER(mode), .fallback = "batch", .choices = modes, .types = CLOUDEVENTS,
     .help = "CloudEvents in batches, or one a request, structured or binary."},
    {"webhook_origin", SCHEMA_STRING, MEMBER(webhook_origin), .max = 255, .types = CLOUDEVENTS,
     .help = "Asks the receiver's consent in this name before the first delivery."},
    {"map", SCHEMA_SECTION, .children = map, .types = HONEYCOMB | LAUNCHDARKLY | MONK | SEGOPS,
     .help = "How neutral events become this api's."},
    {"honeycomb", SCHEMA_SECTION, .children = honeycomb, .types = HONEYCOMB, .help = "Options of this api."},
    {"launchdarkly", SCHEMA_SECTION, .children = launchdarkly, .types = LAUNCHDARKLY,
     .help = "Options of this api."},
    {"monk", SCHEMA_SECTION, .children = monk, .types = MONK, .help = "Options of this api."},
    {"segops", SCHEMA_SECTION, .children = segops, .types = SEGOPS, .help = "Options of this api."},
    {"i_know_this_is_unsafe", SCHEMA_BOOL, MEMBER(unsafe), .fallback = "false",
     .help = "Allows tls.verify: false."},
    END,
};
